package vfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

func TestAlignedBuffer(t *testing.T) {
	for _, size := range []int{1, 100, vfs.BlockBytes, 3*vfs.BlockBytes + 1} {
		b := vfs.AlignedBuffer(size)
		require.Len(t, b, size)
		require.Equal(t, size, cap(b))
		require.Zero(t, uintptr(unsafe.Pointer(unsafe.SliceData(b)))%vfs.BlockBytes)
	}
}

// TestImplementations holds the operating system's file system and the one in memory to the same behaviour.
func TestImplementations(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{"os": vfs.OS, "crashfs": crashfs.New()} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			require.NoError(t, fsys.MkdirAll(dir, 0o755))
			require.NoError(t, fsys.MkdirAll(dir, 0o755))
			file := filepath.Join(dir, "file")
			_, err := fsys.OpenFile(file, os.O_RDWR, 0)
			require.ErrorIs(t, err, fs.ErrNotExist)
			f, err := fsys.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
			require.NoError(t, err)
			_, err = fsys.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
			require.ErrorIs(t, err, fs.ErrExist)

			_, err = f.WriteAt([]byte("hello"), 3)
			require.NoError(t, err)
			require.NoError(t, f.Datasync())
			require.NoError(t, f.Sync())
			require.NoError(t, f.Truncate(6))
			size, err := f.SizeBytes()
			require.NoError(t, err)
			require.EqualValues(t, 6, size)
			require.NoError(t, f.Close())
			b, err := vfs.ReadFile(fsys, file)
			require.NoError(t, err)
			require.Equal(t, "\x00\x00\x00hel", string(b))

			require.NoError(t, vfs.WriteFileDurably(fsys, file, file+".tmp", []byte("new")))
			b, err = vfs.ReadFile(fsys, file)
			require.NoError(t, err)
			require.Equal(t, "new", string(b))
			names, err := fsys.List(dir)
			require.NoError(t, err)
			require.Equal(t, []string{"file"}, names)

			require.NoError(t, fsys.Rename(file, file+"2"))
			require.NoError(t, fsys.SyncDir(dir))
			size, err = fsys.SizeBytes(file + "2")
			require.NoError(t, err)
			require.EqualValues(t, 3, size)
			require.NoError(t, fsys.Remove(file+"2"))
			_, err = fsys.SizeBytes(file + "2")
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.Error(t, fsys.SyncDir(filepath.Join(dir, "none")))
		})
	}
}

func TestPreallocateKeepsTheSize(t *testing.T) {
	f, err := vfs.OS.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	defer f.Close()
	if err := f.Preallocate(1 << 20); err != nil {
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	size, err := f.SizeBytes()
	require.NoError(t, err)
	require.Zero(t, size)
}

// refusing is a file system that refuses direct I/O, at open or at the first write.
type refusing struct {
	*crashfs.FS
	atOpen bool
	err    error
}

func (r refusing) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if r.atOpen && flag&vfs.Direct != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: r.err}
	}
	return r.FS.OpenFile(name, flag, perm)
}

func TestDirectWorks(t *testing.T) {
	works, err := vfs.DirectWorks(crashfs.New(), ".", "probe")
	require.NoError(t, err)
	require.True(t, works)

	for _, atOpen := range []bool{true, false} {
		for cause, refused := range map[syscall.Errno]bool{syscall.EINVAL: true, syscall.EOPNOTSUPP: true, syscall.EIO: false} {
			fsys := refusing{crashfs.New(), atOpen, cause}
			if !atOpen {
				fsys.Before(func(op crashfs.Op) error {
					if op.Kind == crashfs.Write {
						return cause
					}
					return nil
				})
			}
			works, err := vfs.DirectWorks(fsys, ".", "probe")
			require.False(t, works)
			if refused {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, cause)
			}
			names, err := fsys.List(".")
			require.NoError(t, err)
			require.Empty(t, names, "the probe is removed")
		}
	}
}

func TestDirectWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	works, err := vfs.DirectWorks(vfs.OS, dir, "probe")
	require.NoError(t, err)
	flag := os.O_CREATE | os.O_RDWR
	if works {
		flag |= vfs.Direct
	}
	f, err := vfs.OS.OpenFile(filepath.Join(dir, "f"), flag, 0o644)
	require.NoError(t, err)
	b := vfs.AlignedBuffer(2 * vfs.BlockBytes)
	copy(b[5000:], "block")
	_, err = f.WriteAt(b, vfs.BlockBytes)
	require.NoError(t, err)
	require.NoError(t, f.Datasync())
	require.NoError(t, f.Close())
	got, err := vfs.ReadFile(vfs.OS, filepath.Join(dir, "f"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(append(make([]byte, vfs.BlockBytes), b...), got))
}

func TestDatasyncAllocatesNothing(t *testing.T) {
	f, err := vfs.OS.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	defer f.Close()
	require.Zero(t, testing.AllocsPerRun(10, func() { _ = f.Datasync() }))
}
