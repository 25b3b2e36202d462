// Package vfs is the file system as the write-ahead log and the manifest see it.
//
// It exists for two reasons. First, its comments say what "durable" means, call by call, so that the code above can be
// checked against them. Second, it lets tests replace the disk: package crashfs keeps what was not synced apart from what
// was, and shows every state that a power cut may leave.
//
// # What is durable
//
// A thing is durable when it is there after a power cut at any later moment.
//
//   - File contents and size: only what was written before a Sync or Datasync that returned nil. Before that, each sector
//     of an unsynced write may be found old, new, zero or torn, in any order, and the size may be ahead of the data.
//   - A name (a file created, renamed or removed): only after a SyncDir of its directory returned nil. Before that, each
//     change may or may not be found, whatever was synced inside the file.
//   - A rename is atomic: after a power cut the file has its old name or its new one, never none and never both.
//
// A Sync, Datasync or SyncDir that fails leaves the state unknown for good: the kernel may have marked the pages clean, so
// a second call may return nil without having written them. Callers must not try again; they stop.
//
// The package starts no goroutines.
package vfs
