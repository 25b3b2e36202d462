package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"
)

// BlockBytes is the alignment, of file offset, of length and of memory, that every device taken for direct I/O accepts.
const BlockBytes = 4096

// FS is a hierarchical file system. Methods may be called concurrently. Errors wrap the system's (fs.ErrNotExist,
// syscall.ENOSPC and so on), so that errors.Is works on them.
type FS interface {
	// OpenFile opens a file with the os.O_ flags, and Direct where wanted. A file it creates is not durable before SyncDir of
	// its directory. With Direct the call fails where the file system refuses direct I/O; see DirectWorks.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)

	// Rename gives a file a new name, in place of any file that has it. It is atomic, and durable after SyncDir (of both
	// directories, where they differ).
	Rename(oldName, newName string) error

	// Remove removes a file or an empty directory. It is durable after SyncDir. Open files stay readable.
	Remove(name string) error

	// List returns the names in a directory, sorted, without the directory's own path.
	List(dir string) ([]string, error)

	// MkdirAll makes a directory and its missing parents. Each is durable after SyncDir of its parent.
	MkdirAll(dir string, perm fs.FileMode) error

	// SyncDir makes the names in the directory durable. It must not return nil before they are.
	SyncDir(dir string) error

	// SizeBytes returns a file's size.
	SizeBytes(name string) (int64, error)
}

// File is an open file. Methods may be called concurrently, except Close.
type File interface {
	// ReaderAt fills the whole buffer, or returns what there is and io.EOF. A direct file asks for aligned buffers.
	io.ReaderAt

	// WriterAt writes the whole buffer or fails; after a failure any part of it may have been written. Nothing is durable
	// before Sync or Datasync. A direct file needs buffer address, length and offset aligned to BlockBytes.
	io.WriterAt

	// Truncate sets the size. It is durable after Sync or Datasync.
	Truncate(sizeBytes int64) error

	// Preallocate reserves space up to sizeBytes without changing the file's size, so that later writes below sizeBytes do
	// not fail for lack of space. Where the file system cannot, it returns an error that is errors.ErrUnsupported. The space
	// reads as zeros.
	Preallocate(sizeBytes int64) error

	// Sync makes contents and all metadata durable (fsync). It must not return nil before they are.
	Sync() error

	// Datasync makes contents and the metadata needed to read them, such as the size, durable (fdatasync). It must not
	// return nil before they are.
	Datasync() error

	// SizeBytes returns the file's size.
	SizeBytes() (int64, error)

	// Close releases the file. It makes nothing durable.
	Close() error
}

// IsNoSpace reports whether an error says that the disk or a quota is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// AlignedBuffer returns size zero bytes whose address is a multiple of BlockBytes, as direct I/O needs.
func AlignedBuffer(size int) []byte {
	b := make([]byte, size+BlockBytes)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (BlockBytes - 1))
	return b[skip : skip+size : skip+size]
}

// DirectWorks tries whether files in dir can be written with direct I/O: it writes, and removes, a file of one block under
// the name probe. Some file systems refuse the flag at open (older tmpfs), others at the first write (some FUSE and overlay
// file systems); both are answered with false and no error. Other failures, such as a full disk, are errors.
func DirectWorks(fsys FS, dir, probe string) (works bool, err error) {
	name := filepath.Join(dir, probe)
	f, err := fsys.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|Direct, 0o644)
	if err == nil {
		_, err = f.WriteAt(AlignedBuffer(BlockBytes), 0)
		err = errors.Join(err, f.Close())
	}
	if rmErr := fsys.Remove(name); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	if RefusesDirect(err) {
		return false, nil
	}
	return err == nil, err
}

// RefusesDirect reports whether an error of a file that was opened with Direct, or of opening it, says that the file system has no
// direct I/O.
func RefusesDirect(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}

// WriteFileDurably writes a small file so that name is found, after a power cut at any moment, with its old contents or the
// new ones: temporary file, write, sync, rename, sync of the directory. It is durable when nil is returned. temp must be in
// the same directory as name and is overwritten.
func WriteFileDurably(fsys FS, name, temp string, contents []byte) error {
	f, err := fsys.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(contents, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// ReadFile returns a whole file's contents.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.SizeBytes()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], errors.Join(err, f.Close())
}
