package main

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// rawMode says how the raw file is written.
type rawMode int

const (
	direct  rawMode = iota // past the page cache, padded to whole blocks, by the caller
	cached                 // through the page cache, one payload after the other, by the caller
	grouped                // as direct, by a committer
)

// rawSegments is the size of the raw file in segments. At its end writing goes on at its beginning.
const rawSegments = 4

// raw is a file that is full of zeros.
type raw struct {
	*committer
	file   vfs.File
	buffer []byte // nil where payloads are written as they are
	offset int64
	size   int64
	synced atomic.Uint64
}

func openRaw(mode rawMode) func(string, workload) (log, error) {
	return func(dir string, w workload) (log, error) {
		flag := os.O_RDWR | os.O_CREATE
		if mode != cached {
			flag |= vfs.Direct
		}
		file, err := vfs.OS.OpenFile(filepath.Join(dir, "raw"), flag, 0o644)
		if err != nil {
			return nil, err
		}
		r := &raw{file: file, size: rawSegments * w.segmentBytes}
		if err := r.zero(); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		if mode != cached {
			r.buffer = vfs.AlignedBuffer(maxGroupBytes)
		}
		if mode == grouped {
			r.committer = startCommitter(groupAppends(w), r.write)
		}
		return r, nil
	}
}

// zero fills the file.
func (r *raw) zero() error {
	zeros := vfs.AlignedBuffer(1 << 20)
	for at := int64(0); at < r.size; at += int64(len(zeros)) {
		if _, err := r.file.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	return r.file.Sync()
}

func (r *raw) append(payload []byte) error {
	if r.committer != nil {
		return r.committer.append(payload)
	}
	return r.write([][]byte{payload})
}

// write writes payloads at once, one behind the other, and syncs.
func (r *raw) write(payloads [][]byte) error {
	b := payloads[0]
	if r.buffer != nil {
		n := 0
		for _, p := range payloads {
			n += copy(r.buffer[n:], p)
		}
		padded := (n + blockBytes - 1) &^ (blockBytes - 1)
		clear(r.buffer[n:padded])
		b = r.buffer[:padded]
	}
	if r.offset+int64(len(b)) > r.size {
		r.offset = 0
	}
	if _, err := r.file.WriteAt(b, r.offset); err != nil {
		return err
	}
	r.offset += int64(len(b))
	r.synced.Add(1)
	return r.file.Datasync()
}

func (r *raw) syncs() (uint64, error) { return r.synced.Load(), nil }

func (r *raw) close() error { return r.closeAll(r.file.Close) }

// readRaw finds the payloads by their size: behind one follows the next, or zeros up to the next block.
func readRaw(dir string, w workload, fn func([]byte)) error {
	contents, err := os.ReadFile(filepath.Join(dir, "raw"))
	if err != nil {
		return err
	}
	for at := 0; at+w.payloadBytes() <= len(contents); {
		b := contents[at:][:w.payloadBytes()]
		if _, _, ok := identify(b); ok {
			fn(b)
			at += len(b)
			continue
		}
		if at%blockBytes == 0 {
			return nil
		}
		at = (at + blockBytes - 1) &^ (blockBytes - 1)
	}
	return nil
}

// syncFileSystem waits until nothing of earlier work is under way on the disk.
func syncFileSystem(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
