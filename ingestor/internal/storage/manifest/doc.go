// Package manifest keeps the truth about what the server has stored: which Parquet files exist, up to which LSN every
// sink has flushed, from where the log may be cut, and where the dedupe snapshot lies. It is an append-only log of
// edits in JSON lines, written so that a reader with nothing but a JSON parser can follow it; docs/manifest-format.md
// describes it.
//
// Guarantees:
//
//  1. An edit is durable and whole when Commit returns nil: after a crash the state is that before or that after it.
//  2. Only the last line may be torn, and only if its Commit never returned. Anything else that does not prove itself
//     stops Open with a *CorruptionError that names offset and reason. Where damage after the fact cannot be told from a torn
//     write, the last edit is dropped; that does harm only where the log was cut because of it, so the caller compares
//     the log's first LSN with the low watermark.
//  3. Nothing is appended to what a former process has written: Open writes the whole state into a new file, with the next
//     owner epoch, and renames it over the old one. Open may crash anywhere and be run again.
//  4. A failed write or sync poisons the Manifest: no later Commit succeeds. The exception is a disk that is full (ErrNoSpace):
//     nothing has changed then, and a later Commit may succeed.
//
// A Manifest starts no goroutine. It is safe for concurrent use; commits are serialised.
package manifest
