// Package memtable holds what is in the log and not yet in the sinks. All memtables rotate together: a Set takes the
// batches of a contiguous range of the log, one Table for each (tenant, endpoint), until Seal turns it into an
// immutable Generation. docs/adr/0003-generations.md says why.
//
// A table keeps the raw bytes of the requests, in their slab buffers, and one Batch struct for each: nothing is
// decoded, and the garbage collector has a few pointers a batch to look at, none a record.
//
// Ownership: Insert takes over the batch's buffer. A Generation is reference counted, and the last Release gives its
// buffers back to the slab pool. A Set belongs to one goroutine, the committer; a Generation may be read by many.
package memtable
