// Package crashfs is an in-memory file system for tests that knows what a power cut may do.
//
// It holds, beside the contents that a running program sees, what is durable, and the list of changes since: writes and
// truncations of each file since its last Sync, and names created, renamed and removed in each directory since its last
// SyncDir. Crash returns a new file system as it might be found after a power cut at that moment, drawn at random from what
// package vfs allows:
//
//   - of the unsynced changes of a file none, all, the first few, or any subset, down to single sectors of 512 bytes or 4 KiB;
//     a sector whose write was under way may hold the old bytes, the new ones, zeros or garbage
//   - the size with or without its unsynced changes, hence ahead of the data
//   - of the unsynced names of a directory the first few or any subset; each rename wholly or not at all
//
// A test calls Crash from a hook that Before installs, which runs before each operation that changes anything: so it cuts
// the power at every boundary of one run, and recovers from many states at each, without running the workload again.
//
// The hook may also make an operation fail. A failed Sync, Datasync or SyncDir marks the changes clean, as kernels do: the
// running program still sees them, no later sync will write them, and a power cut may or may not keep them.
//
// The package starts no goroutines.
package crashfs
