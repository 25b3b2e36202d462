// Package parquetfile stores generations as Parquet files, one for each (tenant, endpoint, hour). docs/parquet-layout.md
// describes the directories, the columns and how to query them.
//
// The way of a file:
//
//	decode, sort by time -> columns -> temporary file, fsync -> read back -> rename -> fsync of its directory, and of every
//	parent that got a new name in it -> one manifest commit for the whole generation
//
// Guarantees:
//
//  1. A file that the manifest lists is whole, durable and has been read back: every value of every column, after it was
//     synced. A file that the manifest does not list does not exist for readers; Open removes it.
//  2. The files of a generation and the sink's checkpoint take force together, in one manifest commit.
//  3. No tenant's or endpoint's name can lead out of its directory or into another's.
//  4. Memory is bounded by one table's record references (48 bytes a record), one row group's compressed pages and
//     the dictionaries. Nothing is allocated for a record.
//
// A failed write, sync or read-back is final (see Sink.Flush), a full disk is not.
//
// A Sink starts one goroutine only where Options.Niceness is set: it does the work of Flush on a thread of its own. Close ends it.
package parquetfile
