// Command walpeers compares the ingestor's write-ahead log, alone, with the bare disk and with the logs of other databases, all on
// the same disk and in the same run.
//
//	go run . [-dir DIR] [-rounds 5] [-time 1s]
//
// # What is measured
//
// Callers append a payload and wait until it is durable, then append the next (a closed loop). A workload is a number of callers
// and a number of records of 100 bytes in each payload: {1, 64} x {1, 1,000}. Each round visits all peers one after the other, in
// an order that moves on from round to round, so that a disk that changes its mood does so to all of them. A figure is the median
// of the rounds.
//
// To every log a payload is one opaque entry, however many records it holds. That is how the ingestor uses its own log, and it is
// the cheapest use of the others.
//
//	wal        the ingestor's, through a committer as the server has it: one goroutine appends what has queued up and begins a
//	           sync; the next group fills meanwhile. The log is truncated as it grows, so that its segments are recycled.
//	raw        the floor: one writer, pwrite + fdatasync into a file that is full of zeros, past the page cache, padded to 4 KiB.
//	           One write holds a payload of each caller. No checksum, no copy, no waiting callers.
//	cached     the same through the page cache, without padding.
//	grouped    raw behind a committer that writes, syncs and answers: what the callers' handing over costs by itself.
//	pebble     DB.LogData with pebble.Sync: Pebble's commit pipeline and log, which groups by itself, without the memtable.
//	           A flush of the empty memtable after every 64 MiB lets it recycle its log files, as it would in use.
//	etcd       WAL.Save with one entry for each append; its mutex lets the callers in one by one.
//	etcd-ready WAL.Save with all entries that have queued up, which is what etcd's raft loop does; by the committer of grouped.
//	raft-wal   WAL.StoreLogs with up to 64 logs that have queued up, which is what hashicorp/raft does; by the same committer.
//
// What each acknowledges can be read back: the test of this package holds every peer to it.
//
// It lives in a module of its own because the peers bring many modules with them. Their licences: Pebble BSD-3-Clause, etcd
// Apache-2.0, raft-wal and raft MPL-2.0.
package main
