// Package ingestion serves storage.IngestionService: it turns gRPC messages into submissions and their outcomes into answers.
//
// The way of a batch, the same for both methods:
//
//	receive raw bytes -> size limit -> Submitter.Admit (the tenant's share of the queue) -> slab buffer (the memory budget)
//	-> copy, give gRPC its buffers back -> batch.Validate -> may this credential write to this endpoint? -> Submitter.Submit
//	-> ... -> answer
//
// The methods differ in what they do at the server's limits. WriteBatch refuses with OVERLOADED and a retry delay. WriteStream
// waits and meanwhile does not read, so that flow control holds the client back.
//
// # Streams
//
// The handler's goroutine sends the answers. A second goroutine receives. At most Config.Window batches of a stream
// are unanswered; the next one is read when an answer has been sent. Answers go out in the order of completion. A refused
// batch is answered, and the stream goes on. When the client closes its side, all answers are sent before the stream ends.
// gRPC itself ends a stream at once on a message that it cannot deliver, being cut off or far above the size limit: batches
// before that one are committed, but may remain unanswered.
//
// A stream that waits for its tenant's share or for memory holds one message in gRPC's own buffers, outside of the memory budget.
//
// The handler starts the receiving goroutine, which ends when the client closes its side or when the stream is over. It may
// outlive the handler by the moment that gRPC needs to tell it so; Close waits for that.
//
// # Guarantees
//
// A batch that Submit has taken is committed whatever becomes of its client: a broken connection ends the waiting only. A
// batch that was not taken leaves nothing behind. gRPC's buffers and slab buffers are given back exactly once.
package ingestion
