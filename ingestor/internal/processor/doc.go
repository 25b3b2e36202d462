// Package processor is the Data Processor: it moves what is in the log into the sinks, each record once, and then
// lets the log be cut.
//
// # How it works
//
// The committer hands over sealed generations (Accept). The backlog lists them, in log order and without gaps, from
// the first record that some sink has not flushed to the last sealed one. Generations stay in memory within a budget;
// beyond it they are dropped, and the sinks that still need them read the range again from the log, in pieces of
// bounded size. A database that is down for a day costs disk, not memory.
//
// Each sink has a worker, which flushes piece after piece, in order. Hence what a sink has flushed is a prefix of the
// log, and one LSN says all about it. The sink keeps that LSN together with the data, in one transaction, and it
// alone decides: after every failure, and after a restart, the worker asks the sink where it stands and goes on
// there. Pieces need not have the same bounds the second time.
//
// The low watermark is the lowest checkpoint of all sinks. From time to time the checkpointer persists the dedupe
// table, then commits the low watermark, and then cuts the log below it. In this order: a crash in between leaves
// more log than needed, never less.
//
// # The dedupe copy
//
// The processor applies each sealed generation to its own copy of the dedupe table, before the generation may leave
// memory. A snapshot of the copy therefore stands at the end of a sealed generation: at or above the low watermark
// (so that the cut log reaches down to it) and at or below what is durable. At start-up a Rebuild loads it and applies the frames
// above it while the log is checked; of a batch it reads the header and counts the rows.
//
// # Pause
//
// A paused processor (Config.Paused) has no workers: everything stays in the log. The dedupe copy goes on as ever, and once it has a
// generation, that leaves memory. A later life without the pause finds one long backlog, and flushes it.
//
// # Goroutines
//
// Start starts one worker for each sink (none while paused), the listener (events from the committer, dedupe copy) and the checkpointer.
// Close stops and joins them all. Accept is called by the committer and never blocks on any of them.
package processor
