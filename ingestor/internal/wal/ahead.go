package wal

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

const (
	// aheadBlockBytes is what is read from the disk at a time, aheadBlocks how many such blocks a file takes: one from which the
	// caller reads while the disk fills another.
	aheadBlockBytes = 1 << 20
	aheadBlocks     = 2
)

// aheadBlock is a part of a file. After an error it holds what was read before.
type aheadBlock struct {
	mem    []byte
	offset int64
	n      int
	err    error
}

// ahead reads a file from front to back, one block ahead of who asks for its bytes, and past the page cache where that works: a log
// that is written past the page cache is not in it, and filling the cache with a file that is read once costs more than the disk.
//
//	free ──> goroutine ──> full ──> ReadAt ──> free
//
// It is an io.ReaderAt for one caller at a time, whose offsets never go back. The goroutine ends with close, or with the file.
type ahead struct {
	fs   vfs.FS
	path string
	file vfs.File
	// end is where the reading ends: the file's end, or before it.
	end    int64
	direct bool

	free chan aheadBlock
	full chan aheadBlock
	// current is the block that is being read from; with mem nil before the first and after the last.
	current aheadBlock
	blocks  int // that the file was given
	pool    *blockPool
}

// blockPool keeps the memory of blocks from one file to the next. The zero value is ready. Not safe for concurrent use.
type blockPool struct{ blocks [][]byte }

// take returns aligned memory of n bytes.
func (p *blockPool) take(n int) []byte {
	for last := len(p.blocks) - 1; last >= 0; last-- {
		b := p.blocks[last]
		if p.blocks = p.blocks[:last]; cap(b) >= n {
			return b[:n]
		}
	}
	return vfs.AlignedBuffer(n)
}

// openAhead begins to read a file at the block of 4 KiB that offset lies in, and goes on to end, or to the end of the file where that
// comes first. direct asks for direct I/O, and is let go of where the file system refuses it.
func openAhead(fsys vfs.FS, path string, offset, end int64, direct bool, pool *blockPool) (*ahead, error) {
	a := &ahead{
		fs: fsys, path: path, pool: pool, direct: direct,
		free: make(chan aheadBlock, aheadBlocks), full: make(chan aheadBlock, aheadBlocks),
	}
	if err := a.open(); err != nil {
		return nil, err
	}
	size, err := a.file.SizeBytes()
	if err == nil && a.direct && size%vfs.BlockBytes != 0 { // a damaged file: its last bytes cannot be asked for directly
		a.direct = false
		err = a.reopen()
	}
	if err != nil {
		return nil, errors.Join(err, a.file.Close())
	}
	a.end = min(size, alignBlock(end))
	offset = min(offset, a.end) &^ (vfs.BlockBytes - 1)
	length := min(aheadBlockBytes, alignBlock(max(a.end-offset, 1)))
	a.blocks = int(max(1, min(aheadBlocks, (a.end-offset+length-1)/length)))
	for range a.blocks {
		a.free <- aheadBlock{mem: pool.take(int(length))}
	}
	go a.run(offset)
	return a, nil
}

// open opens the file, with direct I/O where it is wanted and taken.
func (a *ahead) open() (err error) {
	if a.direct {
		if a.file, err = a.fs.OpenFile(a.path, os.O_RDONLY|vfs.Direct, 0); err == nil || !vfs.RefusesDirect(err) {
			return err
		}
		a.direct = false
	}
	a.file, err = a.fs.OpenFile(a.path, os.O_RDONLY, 0)
	return err
}

// reopen opens the file anew after direct was changed. There is an open file afterwards in any case.
func (a *ahead) reopen() error {
	former := a.file
	if err := a.open(); err != nil {
		a.file = former
		return err
	}
	return former.Close()
}

// run is the goroutine.
func (a *ahead) run(offset int64) {
	defer close(a.full)
	for b := range a.free {
		b.offset = offset
		if b.n, b.err = a.read(b.mem[:min(int64(len(b.mem)), alignBlock(a.end-offset))], offset); b.err == nil && offset+int64(b.n) >= a.end {
			b.err = io.EOF
		}
		offset += int64(b.n)
		err := b.err
		a.full <- b
		if err != nil {
			return
		}
	}
}

// read reads a block; less of it only where the file ends, or with an error.
func (a *ahead) read(b []byte, offset int64) (int, error) {
	n, err := readFull(a.file, b, offset)
	if err != nil && a.direct && vfs.RefusesDirect(err) { // some file systems take the flag and refuse the first read
		a.direct = false
		if err := a.reopen(); err != nil {
			return 0, err
		}
		n, err = readFull(a.file, b, offset)
	}
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// ReadAt fills b with the bytes at offset; with fewer, and io.EOF or the disk's error, where there are no more.
func (a *ahead) ReadAt(b []byte, offset int64) (n int, err error) {
	for n < len(b) {
		c := &a.current
		at := offset + int64(n)
		switch {
		case c.mem != nil && at < c.offset:
			return n, fmt.Errorf("wal: %s is read back at byte %d, after %d", a.path, at, c.offset)
		case c.mem != nil && at < c.offset+int64(c.n):
			n += copy(b[n:], c.mem[at-c.offset:c.n])
			continue
		case c.err != nil:
			return n, c.err
		case c.mem != nil:
			a.free <- aheadBlock{mem: c.mem}
		}
		a.current = <-a.full
	}
	return n, nil
}

// close ends the goroutine, waits for it, and closes the file.
func (a *ahead) close() error {
	blocks := 0
	keep := func(b aheadBlock) {
		if b.mem != nil {
			a.pool.blocks = append(a.pool.blocks, b.mem[:cap(b.mem)])
			blocks++
		}
	}
	for len(a.free) > 0 {
		select {
		case b := <-a.free: // before the goroutine gets it, which would read once more
			keep(b)
		default:
		}
	}
	close(a.free)
	for b := range a.full {
		keep(b)
	}
	for b := range a.free {
		keep(b)
	}
	keep(a.current)
	if blocks != a.blocks {
		panic(fmt.Sprintf("wal: %d of %d blocks are left", blocks, a.blocks))
	}
	return a.file.Close()
}
