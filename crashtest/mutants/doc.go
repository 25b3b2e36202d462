// Package mutants judges the tests: it plants deliberate mistakes in the server, one at a time, and demands that some test notices each.
//
// A mutant is a piece of text in one file of the server and what takes its place: an fsync that is gone, a check that is not made, an
// order that is turned round. The text must be found exactly once. Where the server has changed so that it is not, or where the
// result does not compile, the mutant is broken, and TestEveryMutantAppliesAndCompiles fails until it is brought up to date.
//
// The runner (cmd/mutants, `make mutants`) never touches the tree: the go command is given an overlay. For each mutant it runs, until one
// fails:
//
//  1. the crash tests of the package that is mutated, of those named in Also, and where it is part of it those of the whole pipeline
//     (ingestor/internal/processor), at the brief level;
//  2. where Server names them, crash tests that drive the built binary, against a server built with the mistake;
//  3. the other tests of the same packages;
//  4. the crash tests of 1 again at level gate, unless it is explained why the mutant survives.
//
// All of these must pass without a mistake first, or the run says nothing. A mutant is killed when a test fails, panics or does not end;
// one that does not build is no kill. The score says how many were killed, by which layer. A survivor fails the run unless Survives explains it:
// because it is equivalent, or because no test here can reach it. Tests named TestField_…, cases from other systems, count as a layer.
//
// What a score proves: that each of these mistakes would be noticed. It says nothing about mistakes of other kinds, and the mutants were
// chosen by the same people who wrote the tests; many are taken from what went wrong elsewhere (docs/crash-testing.md).
package mutants
