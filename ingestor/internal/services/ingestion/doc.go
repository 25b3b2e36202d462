// Package ingestion makes batches durable: admission, group commit, acknowledgement.
//
// # One goroutine commits
//
// Admit reserves room in the queue before a batch takes memory; Submit queues the batch. The committer, a single goroutine, takes
// what has queued up, to a bound, appends it to the log as one group, has the log write and sync it, inserts the group into the
// memtables, and answers. While the log has one group, the next one fills, so that the group size follows the load, the disk does not
// wait for the CPU, and an idle server adds no delay (docs/adr/0007-the-next-group-fills.md).
//
// Each tenant has a queue of its own and a share of the room that leaves some for others; the committer takes from the tenants in
// turn. See fairQueue, and docs/adr/0006-fair-queueing.md for what was rejected.
//
// A leader/follower scheme, in which one of the callers commits for all, was measured and gained nothing; a goroutine
// of its own needs no hand-over and owns its state without locks.
//
// # Invariants
//
//  1. The members of a group and their bytes are fixed before its Begin. What arrives later belongs to the next group. A batch
//     is answered only after the sync that covers its bytes has succeeded.
//  2. Log order = memtable order = dedupe order. All three are changed by the committer only, one after the other.
//  3. A batch is inserted into the memtable after its sync and before its answer: an acknowledged batch is
//     visible, a visible one is durable.
//  4. The dedupe table counts a batch as stored from its Append on, and for good from its sync on. A group that is dropped for
//     want of space takes its entries and their duplicates with it; no other group is under way then.
//  5. Every submission that Submit took is answered exactly once, whatever happens to the log.
//  6. A failed write or sync is final. Everything that has not been answered is answered OutcomeUnknown, later
//     submissions are refused, and the process has to exit. Nothing is tried again.
//  7. No space is not a failure: the group is refused as a whole and the service goes on.
//  8. Nothing here waits for a sink: a sealed generation is handed on and never waited for.
//
// # Ack levels
//
// Buffered is answered by Submit itself, once the batch is in the queue; a crash, a full disk or a fenced producer may
// still lose it (counted in a metric). WALSynced is answered after the group's sync and insertion. Committed waits
// until all sinks have committed the batch's last record.
//
// # Goroutines
//
// New starts two: the committer, and the releaser, which answers Committed waiters as the sinks progress. Drain ends the
// first, Close the second. The log has a goroutine of its own for writing.
package ingestion
