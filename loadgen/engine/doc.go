// Package engine puts load on an IngestionService or a MetricsService and measures how it answers.
//
// # Load model
//
// A run is a list of phases. In an open-loop phase a Pacer, a pure function of hit number, says when each batch is due,
// whether or not earlier ones were answered. Response time counts from that moment, so that a stalled server, or a
// bound on batches in flight, shows in the figures instead of thinning out the load (no coordinated omission). A batch
// that is late is sent late, never skipped. How late the sending was is the schedule lag. In a closed-loop phase
// (rate 0) each worker sends as soon as its bound on batches in flight allows, and response time counts from that moment.
//
// # Workers, lanes, producers
//
// There are Connections x Streams workers. They draw due batches from one schedule. A batch's (tenant, endpoint) is drawn from a
// Zipf distribution by its hit number. A worker holds one lane for each tenant that it met, because the credential belongs to the
// stream: a lane is one producer (ID, epoch, growing sequence) and, at any time, at most one stream. At most InFlight
// batches of a lane are unanswered. In unary mode a worker has one call in flight.
//
// # Unknown outcomes
//
// When a stream breaks, or the server answers OUTCOME_UNKNOWN or UNAVAILABLE, the lane opens a new stream and sends every
// unanswered batch again, in order and under the same sequence, until RetryFor has passed without an answer. What is then
// still unanswered stays unknown, in the Result and in the ledger. Other refusals are final and are counted by their code.
//
// # Clients
//
// The live client sets the fields of protobuf-go messages and marshals every batch with protobuf-go, as a program with a hot path
// would: it uses its messages again, and the texts of the payloads are there before. The prepared client copies batches that were
// encoded beforehand and patches identities and timestamps at fixed offsets; its cost is near that of a memory copy, so it can
// load the server from a shared machine. Both send the same records.
//
// # Goroutines
//
// Run starts one goroutine for each worker, one for each lane, and one for progress. All have ended when it returns.
package engine
