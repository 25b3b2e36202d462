package vfs

import (
	"errors"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Direct is the flag for OpenFile that asks for direct I/O: writes go past the page cache, so that Datasync has only the
// device to wait for.
const Direct = unix.O_DIRECT

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, fd: int(f.Fd())}, nil
}

func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) MkdirAll(dir string, perm fs.FileMode) error { return os.MkdirAll(dir, perm) }

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) SizeBytes(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// osFile adds to os.File, which itself retries interrupted calls and completes short writes, what package os lacks.
type osFile struct {
	*os.File
	fd int
}

func (f *osFile) Datasync() error {
	return f.retryInterrupted("fdatasync", func() error { return unix.Fdatasync(f.fd) })
}

func (f *osFile) Preallocate(sizeBytes int64) error {
	return f.retryInterrupted("fallocate", func() error {
		return unix.Fallocate(f.fd, unix.FALLOC_FL_KEEP_SIZE, 0, sizeBytes)
	})
}

func (f *osFile) SizeBytes() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// retryInterrupted runs call again for as long as a signal interrupts it. An interrupted call did nothing and reported
// nothing: this is not the retry after a failed sync that is forbidden.
func (f *osFile) retryInterrupted(op string, call func() error) error {
	for {
		err := call()
		runtime.KeepAlive(f.File)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: op, Path: f.Name(), Err: err}
		}
	}
}
