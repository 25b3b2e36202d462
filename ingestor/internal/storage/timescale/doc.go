// Package timescale stores records and metrics in TimescaleDB, or in plain PostgreSQL where the extension is missing.
// docs/timescale.md shows the schema and how to query it.
//
// # Parts
//
//   - Database holds the connection pool. Prepare runs the embedded migrations once and finds out what the server can do,
//     by asking for features, never for versions. It is called before every use, so the server may start while the database is
//     down.
//   - TransactionManager runs a function in one transaction and tells a failed commit from one whose outcome is unknown.
//   - RecordRepository and MetricRepository write rows with COPY in binary format, encoded by hand. Nothing is allocated
//     for a record.
//   - RecordSink implements processor.Sink. MetricWriter is its counterpart for metrics.
//
// # Exactly once
//
// Rows and a checkpoint row commit in one transaction. A RecordSink moves sink_checkpoints.flushed_lsn from the
// position that it expects, as the owner that it claims to be; where either has changed the transaction changes
// nothing. After a commit whose answer was lost the checkpoint row tells what happened: a second attempt either finds
// the position moved or moves it itself. A MetricWriter does the same with its own row and a batch number.
//
// # Poison
//
// A row that PostgreSQL refuses for its content (SQLSTATE classes 22 and 23, program limits, an exception raised by a
// trigger) must not hold up the others. The batch is halved until the row is found, and the row goes to dead_letters,
// whole and with the reason, in the same transaction. Conservation: rows stored + dead letters = rows handed over.
//
// # Time
//
// timestamptz holds microseconds, so ts is the timestamp rounded down to a microsecond, and ts_unix_nano beside it is
// exact. Every int64 of nanoseconds (years 1677 to 2262) lies within timestamptz (to 294276).
//
// # Goroutines
//
// The package starts none but those of the connection pool, which Database.Close ends. Database and TransactionManager
// are safe for concurrent use. A RecordSink and a MetricWriter belong to one goroutine at a time.
package timescale
