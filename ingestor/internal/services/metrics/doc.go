// Package metrics takes metrics into bounded buffers and writes them to the database in the background.
//
//	Submit -> queue of a shard -> worker: a batch at batch size or at the ticker -> one transaction -> Receipt
//
// A submission goes whole into one shard, chosen by tenant and service, and whole into one transaction.
//
// # Guarantees
//
//   - Submit never blocks. What it accepted is written, or the process ends first: a batch that cannot be written is tried
//     again for as long as the service runs, with growing pauses. The Writer sees to it that no attempt is stored twice.
//   - Buffers are bounded by the number of metrics and by bytes; both count what a worker holds, too. A full buffer refuses.
//   - Close writes what is buffered, and when its context ends first it says exactly how many metrics were not.
//
// # Goroutines
//
// New starts one worker a shard. Close ends and joins them. Submit may be called by many goroutines.
package metrics
