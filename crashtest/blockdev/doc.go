// Package blockdev cuts the power below real file systems: ext4 and XFS, on a device of which every write and every flush is known.
//
// # Method
//
// A Disk is a block device with a volatile cache. Host serves it as a file through FUSE, a loop device with direct I/O stands on that file,
// and the file system on the loop device is the kernel's own. So every write of the file system reaches the Disk as it is made, and every
// flush that it asks for (the loop driver makes it an fsync of the file). The Disk keeps what is durable, which is all that was written before
// the last flush began, and the writes since, in order. Blocks are never changed, only replaced, and images share them: a Capture of the
// device at one moment costs a list of pointers, and the server goes on.
//
// From a Capture any number of states can be made, by which of the pending writes reached the medium: none, all, the first ones and a part of
// the next, all but one, one alone, any subset; whole, lost, or torn at 512 bytes or 4 KiB. Two marks of the ledgers enclose the capture:
// what was acked before it must be in each of its states, and nothing may be there that was not sent by then.
//
// A state is mounted, so that the kernel replays its journal, unmounted, checked with fsck, and mounted again. The real server recovers it, takes
// new writes, often is killed and recovers once more, drains, and all that is stored is compared with the ledgers. While a state is being recovered, by
// kernel or server, its own device is captured too; states of that moment are crashes inside recovery.
//
// # What it proves, and what it does not
//
// What powercut assumes of a file system, that a synced file and a synced directory survive, is here done by the file systems that are used in
// production, with their journals, delayed allocation and barriers; and the server is shown to need no more than what these give. It
// is shown as well that without the flushes acked records are lost: TestTheJudgeSeesSyncsThatAreMissing.
//
// ext4 and XFS keep more than they promise. An fsync of any file writes the whole journal, and with it names that nobody has synced.
// A missing fsync of a directory is seldom found here; powercut, which forgets all that is not synced, finds it. Writes are torn, but their sectors
// are never replaced by garbage: file systems do not claim to survive that. A device that lies about its cache loses data, as planted.
//
// XFS is made with sectors of 4 KiB. Tearing a block at 512 bytes is more than drives with such sectors do; ext4 and XFS have mended it from
// their journals as far as has been seen.
//
// # What it needs, and cleaning up
//
// Root, /dev/fuse, loop devices, mkfs and fsck of both file systems. The disks are served by the test's own process, which must not touch the
// file systems on them in ways that stop its other goroutines (mapping a file of theirs into memory). Nothing that it starts inherits the
// descriptor of /dev/fuse: when the process dies, in whatever way, the kernel ends the device, and what waits for it gets errors.
// Mount points and loop devices carry the process ID in their paths; NewHost sweeps those of dead processes.
//
// Memory: an image has at most 512 MiB, of which only written blocks exist; captures and states share them.
package blockdev
