// Package scenarios holds the benchmark scenarios that ship with the project, and the strict loader for them and for a
// user's own.
//
// A scenario is a YAML file that states the server's tuning, the load, what happens to the server meanwhile, the
// objectives, and the rules under which a measurement counts. schema.json describes the format; docs are in its
// descriptions. The loader refuses unknown keys, wrong types and names that do not exist, all problems at once, each with
// file and line, and with a suggestion where a name looks misspelt.
package scenarios
