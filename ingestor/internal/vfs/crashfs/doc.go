// Package crashfs is an in-memory file system for tests that knows what a power cut may do.
//
// It holds, beside the contents that a running program sees, what is durable, and the list of changes since: writes and
// truncations of each file since its last Sync, and names created, renamed and removed in each directory, directories among them, since
// its last SyncDir. From these follow all the states that package vfs allows a power cut to leave:
//
//   - of the unsynced changes of a file any subset, down to single sectors of 512 bytes or 4 KiB; a sector whose write was under way
//     may hold the old bytes, the new ones, zeros or garbage
//   - the size that of the data, or ahead of it
//   - of the unsynced names any subset; each rename wholly or not at all. A directory whose name is lost takes with it what is in it
//
// Freeze returns the present Moment, its States number them, and an Explorer visits them all, or a sample where they are too many. Crash
// draws one. A test calls these from a hook that Before installs, which runs before each operation that changes anything: so it cuts
// the power at every boundary of one run, and recovers from many states at each, without running the workload again. A state is a
// file system like any other, so that the recovery can be cut short in the same way.
//
// The hook may also make an operation fail. A failed Sync, Datasync or SyncDir marks the changes clean, as kernels do: the
// running program still sees them, no later sync will write them, and a power cut may or may not keep them.
//
// An Explorer starts goroutines, and Wait waits for them; nothing else does.
package crashfs
