// Package wal is the write-ahead log: it makes opaque entries durable, in order, and gives them back after a crash. It knows
// neither records nor protobuf.
//
// # Use
//
//	w, err := wal.Open(ctx, wal.Options{Dir: dir, FirstLSN: flushed + 1, OnFrame: ...})   // sees every frame while the log is checked
//	err = w.Replay(ctx, flushed+1, func(f wal.Frame) error { ... })                       // reads again what is to be flushed
//
//	first, err := w.Append(wal.Entry{Records: n, Parts: ...})         // one goroutine, any number of entries, then:
//	err = w.Sync()                                                    // one write, one fdatasync; now ack what was appended
//
//	err = w.Begin(); w.Append(...); err = <-w.Done()                  // the same without waiting: the next group fills meanwhile
//
//	err = w.TruncateBelow(lowest + 1)                                 // once every sink has flushed up to lowest
//	err = w.Close()
//
// Verify, Inspect and Repair work on the files of a log that is not open.
//
// # Guarantees
//
//   - After Sync returned nil, every entry appended before is found by every later Replay, whole and with its LSNs, whatever
//     crashes: the process, the machine, the recovery.
//   - An entry is there wholly or not at all. Entries are replayed in the order of their LSNs. What was not appended is never
//     replayed: neither what a file held in an earlier use, nor what a torn write left behind.
//   - An entry whose Sync did not return may be there or not. Once it was replayed, it stays: Open syncs before it reads.
//   - Where records that had been durable are damaged or missing, Open and Replay say so with a CorruptionError. Nothing is
//     skipped. What a crash can have torn, and only that, is cut off; see recovery.go for how the two are told apart. What OnFrame was
//     given before Open failed counts for nothing.
//   - A failed write or sync poisons the log for good: no write is tried again, because nobody knows what is on disk. A full
//     disk is found out before anything is written, and poisons nothing.
//
// Three things are not guaranteed. Damage to the last group alone, with nothing after it, cannot be told from a torn write,
// and is cut; Close and MarkDurable leave a proof that prevents it. A device that acknowledges a flush and then loses the data
// is not found out in time. And after a sync that failed, a new process that starts without a reboot in between must believe
// the kernel that what it reads is on disk; FirstLSN at least keeps LSNs from being given out twice.
//
// # Files
//
//	0000000000000042.wal           segment 42: header block, groups of frames (frame.go, segment.go; docs/wal-format.md)
//	spare-7.tmp                    a file that will become a segment; its contents mean nothing
//	0000000000000042.wal.damaged   what Repair put aside
//
// Segments have one size, are written once from front to back, and end where the next one's header says. A segment is never
// added to after the log was reopened: the first Sync begins a new one.
//
// # The caller's duties
//
//  1. No two processes use one directory at a time.
//  2. One goroutine calls Append, Sync, Begin, MarkDurable and Close, or several one after the other.
//  3. Ack an entry only after the Sync that followed its Append returned nil, or Done delivered nil for the Begin; after ErrNoSpace
//     refuse what was appended since the last of them; after any other error answer "unknown" and stop.
//  4. Call TruncateBelow only with what every sink has made durable, and pass FirstLSN accordingly at the next Open.
//
// # Goroutines
//
// A WAL owns a goroutine that prepares spares, which Open starts, and one that writes and syncs the groups of Begin, which the first
// Begin starts. Close ends both and waits for them. Sync writes on the goroutine that calls it. Open, Replay, Verify and Inspect read
// each segment by a goroutine of its own, a block ahead; they end it, and wait for it, before they return.
package wal
