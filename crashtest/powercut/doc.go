// Package powercut is a file system on which a power cut can be had at any operation.
//
// SIGKILL leaves the kernel's page cache alive, so a server that never calls fsync would pass every test made of it. Here
// nothing outlives a cut but what was synced: Disk holds, for each file, the durable bytes and the writes since the last fsync or
// fdatasync, and for each directory the durable names and the changes since its last fsync. Cut decides the fate of each pending
// write, sector by sector, and of each pending change of a directory, by a seeded random source:
//
//   - a sector of 512 bytes keeps its old bytes or takes the new ones; rarely it comes back as zeros or as garbage;
//   - a change of size, a create, an unlink or a rename happens or does not, whatever came after it.
//
// That is what POSIX allows, and harsher than most file systems are. fsync of a file makes its bytes and size durable,
// not its name: the name takes an fsync of the directory. A rename inside one directory is atomic.
//
// While the power is on, operations can be made to fail, or to be slow: see Fault. A sync that fails has lost what it was to sync, although
// readers still see it, and the next one succeeds. SetQuota makes the disk full.
//
// Mount serves a Disk through FUSE, so that the real server binary runs on it unchanged. It needs root and /dev/fuse.
//
// How a cut is made: from the chosen operation on, every operation blocks (the power is gone, nothing can be answered, so nothing
// can be acknowledged that is not durable by then); the process is killed; blocked operations end with an error that no one sees;
// Cut makes the state that the next mount finds.
package powercut
