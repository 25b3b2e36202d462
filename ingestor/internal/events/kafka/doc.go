// Package kafka announces on a Kafka topic how far the log and its sinks have come, for consumers outside the server.
//
// # Messages
//
// A message says that the records First to Last of a log have reached a stage: durable ("new_data"), stored in one sink
// ("flushed") or in all of them ("committed"). It carries positions, not data: the records are in the files and tables of the sinks. Its key is
// the log's ID, so that all messages of one log are in one partition and in order; its value is the JSON of Message.
//
// # What a consumer may rely on
//
// Positions are cumulative: a message with last_lsn L says that everything up to L has reached the stage, and first_lsn is where the
// message before it ended, plus 1. Delivery is at least once. After a start the first message of each stage begins at 1 again, so that
// nothing is missing whatever a crash has kept from being announced; a consumer keeps the highest last_lsn that it has seen for each
// (log, kind, sink), and ignores what does not exceed it.
//
// # What it costs the server
//
// Nothing waits for Kafka. The publisher looks at the positions when something has happened, at most once in an interval, and sends
// what has changed since the last message that the brokers have acknowledged (acks=all, idempotent). While they are away it tries
// again with growing pauses, and remembers nothing but those positions; afterwards one message for each stage says it all.
//
// Start starts one goroutine, which Close joins; the client library has its own, which Close ends too.
package kafka
