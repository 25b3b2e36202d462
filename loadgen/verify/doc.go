// Package verify is the judge: it compares what a server stored with what was sent and acked.
//
// It knows the ledgers (package ledger), how records are made (packages record and replay), and the published formats of the
// data directory and the database. It shares no code with the server: Parquet is read by arrow-go, PostgreSQL through
// SQL.
//
// Every stored row is taken by its identity, never counted alone. All columns of each row are computed again and compared. A Report
// then says how many acked records are missing, how many rows are there twice, differ, or were never sent, which batches are there
// in part, and whether each producer's batches lie in the log in the order they were sent.
//
// Expectation holds one bit for each record sent and some bytes for each batch. Readers run on two goroutines that
// the call starts and joins.
package verify
