// Package replay makes records of a recorded file (CSV, NDJSON or Parquet), for the load generator to send and for the
// judge to expect.
//
// One column gives each record's timestamp, another, if named, its endpoint; all other columns become the payload, a JSON object with
// its keys in order. Rows of one endpoint keep the order of the file. A batch holds consecutive rows of one endpoint, and is due when its
// last row was recorded. Timestamps are sent as they were recorded.
//
// The whole file is held in memory. A Recording is never changed after Open and may be used concurrently. Nothing here starts
// goroutines.
package replay
