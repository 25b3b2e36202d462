// Package traffic is the load of the crash tests that look at many states of one run: a few load generators of different shapes, each
// with a ledger, at rates that a busy machine can keep, so that a run stays small enough to be judged hundreds of times.
//
// A crash that is taken as a snapshot, while the server lives on, needs the ledgers as of that moment: Mark is called right before and right
// after the snapshot, and CopyAsOf makes ledgers that hold the answers from before it and what was sent until it.
//
// Start starts one goroutine for each generator; Stop joins them.
package traffic
