package crashfs

import (
	"io"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// file is an open file.
type file struct {
	fs   *FS
	name string
	node *inode
}

var _ vfs.File = (*file)(nil)

func (f *file) ReadAt(b []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if offset >= int64(len(f.node.contents)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.contents[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, offset int64) (int, error) {
	if err := f.fs.begin(Op{Kind: Write, Name: f.name, Offset: offset, Length: int64(len(b))}); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if err := f.fs.grow(Write, f.name, f.node, offset+int64(len(b))); err != nil {
		return 0, err
	}
	f.node.change(change{offset: offset, bytes: append(make([]byte, 0, len(b)), b...)})
	return len(b), nil
}

func (f *file) Truncate(sizeBytes int64) error {
	if err := f.fs.begin(Op{Kind: Truncate, Name: f.name, Length: sizeBytes}); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if err := f.fs.grow(Truncate, f.name, f.node, sizeBytes); err != nil {
		return err
	}
	f.node.change(change{offset: sizeBytes})
	f.node.reserved = 0
	return nil
}

func (f *file) Preallocate(sizeBytes int64) error {
	if err := f.fs.begin(Op{Kind: Reserve, Name: f.name, Length: sizeBytes}); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if err := f.fs.grow(Reserve, f.name, f.node, sizeBytes); err != nil {
		return err
	}
	f.node.reserved = max(f.node.reserved, sizeBytes)
	return nil
}

func (f *file) Sync() error {
	err := f.fs.begin(Op{Kind: Sync, Name: f.name})
	if err != nil {
		f.fs.mu.Lock()
	}
	defer f.fs.mu.Unlock()
	f.node.sync(err == nil)
	return err
}

func (f *file) Datasync() error { return f.Sync() }

func (f *file) SizeBytes() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.contents)), nil
}

func (f *file) Close() error { return nil }
