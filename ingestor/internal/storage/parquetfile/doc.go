// Package parquetfile stores generations as Parquet files, one for each (tenant, endpoint, hour). docs/parquet-layout.md
// describes the directories, the columns and how to query them.
//
// The way of a file:
//
//	decode, sort by time -> row groups -> temporary file, fsync -> read back -> rename -> fsync of its directory, and of every
//	parent that got a new name in it -> one manifest commit for the whole generation
//
// An encoder makes a row group: column by column, page by page, from the bytes of the batches to the bytes of the file, with
// nothing made for a single value in between. Encodings of numbers and the Thrift structures are parquet-go's; what
// puts them together is here. A verifier reads the file back with parquet-go's reader, which shares none of that.
//
// Guarantees:
//
//  1. A file that the manifest lists is whole, durable and has been read back: after it was synced, all its bytes have the checksums
//     that they had in memory, and every value of every column, decoded, equals that of the record it came from. A file that the
//     manifest does not list does not exist for readers; Open removes it.
//  2. The files of a generation and the sink's checkpoint take force together, in one manifest commit.
//  3. No tenant's or endpoint's name can lead out of its directory or into another's.
//  4. Memory is bounded, and used again by the next flush. For the largest table of a generation: 48 bytes a record for its place,
//     32 more where records are not in the order of time, and the different attributes. For each of Options.Threads: one
//     encoded row group (at most 64 MiB of payloads and attributes, plus one record, plus 50 bytes a row), the same row
//     group read back, one page of at most 128 KiB or one record and its compressed form, a dictionary of at most 1 MiB, and 5
//     bytes a row. Between flushes at most 1 M records, 32 MiB of attributes and 16 MiB of each of a thread's buffers are kept.
//     Nothing is allocated for a record.
//
// A failed write, sync or read-back is final (see Sink.Flush), a full disk is not.
//
// A Sink starts goroutines only where Options.Niceness or Options.Threads ask for them: one that does the work of Flush on a
// thread of that nice value, and one for each further thread. Close ends them.
package parquetfile
