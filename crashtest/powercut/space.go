package powercut

import "syscall"

// blockBytes is the unit in which files take space.
const blockBytes = 4096

// space counts the blocks of all files. A file takes blocks where it was written or reserved, not where it has holes.
type space struct {
	quotaBytes int64 // 0: none
	usedBytes  int64
}

// SetQuota makes the disk full at so many bytes; 0 gives it all the space it wants. What is stored may be more already.
func (d *Disk) SetQuota(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space.quotaBytes = bytes
}

// UsedBytes is the space that files take.
func (d *Disk) UsedBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.space.usedBytes
}

func (s *space) hasRoomFor(blocks int64) bool {
	return s.quotaBytes == 0 || s.usedBytes+blocks*blockBytes <= s.quotaBytes
}

// blocks are those that a file has: bit i stands for block i.
type blocks []uint64

func (b *blocks) set(i int64) {
	for int64(len(*b)) <= i/64 {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b blocks) has(i int64) bool { return i/64 < int64(len(b)) && b[i/64]>>(i%64)&1 == 1 }

// blockRange returns the blocks that bytes from start to end touch: first to last-1.
func blockRange(start, end int64) (first, last int64) {
	return start / blockBytes, (end + blockBytes - 1) / blockBytes
}

// missing counts the blocks that a file lacks for the bytes from start to end.
func (f *file) missing(start, end int64) (n int64) {
	first, last := blockRange(start, end)
	for i := first; i < last; i++ {
		if !f.blocks.has(i) {
			n++
		}
	}
	return n
}

// takeSpace gives a file the blocks for the bytes from start to end, as far as there is room, and returns the end of what it got.
func (d *Disk) takeSpace(f *file, start, end int64) int64 {
	first, last := blockRange(start, end)
	for i := first; i < last; i++ {
		if f.blocks.has(i) {
			continue
		}
		if !d.space.hasRoomFor(1) {
			d.stats.NoSpace++
			return max(start, i*blockBytes)
		}
		f.blocks.set(i)
		d.space.usedBytes += blockBytes
	}
	return end
}

// reserve gives a file all the blocks for the bytes from start to end, or none.
func (d *Disk) reserve(f *file, start, end int64) syscall.Errno {
	if n := f.missing(start, end); n > 0 && !d.space.hasRoomFor(n) {
		d.stats.NoSpace++
		return syscall.ENOSPC
	}
	d.takeSpace(f, start, end)
	return 0
}

// freeAbove takes the blocks beyond a size from a file.
func (d *Disk) freeAbove(f *file, size int64) {
	_, first := blockRange(0, size)
	for i := first; i < int64(len(f.blocks))*64; i++ {
		if f.blocks.has(i) {
			f.blocks[i/64] &^= 1 << (i % 64)
			d.space.usedBytes -= blockBytes
		}
	}
}

// allocatedBytes is the space of a file after a cut: all of its length, and nothing beyond it.
func (f *file) allocatedBytes() int64 {
	f.blocks = nil
	_, last := blockRange(0, int64(len(f.durable)))
	for i := range last {
		f.blocks.set(i)
	}
	return last * blockBytes
}

func (dir *directory) allocatedBytes() (n int64) {
	for _, child := range dir.names {
		n += child.allocatedBytes()
	}
	return n
}
