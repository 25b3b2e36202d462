package manifest_test

import (
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// fullFS takes some of the bytes of the next write to the manifest, or all of them, and says that there is no space.
type fullFS struct {
	vfs.FS
	full  bool
	taken func(n int) int
}

type fullFile struct {
	vfs.File
	fs *fullFS
}

func (f *fullFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, manifest.FileName) {
		return file, err
	}
	return &fullFile{file, f}, nil
}

func (f *fullFile) WriteAt(b []byte, offset int64) (int, error) {
	if !f.fs.full {
		return f.File.WriteAt(b, offset)
	}
	n, err := f.File.WriteAt(b[:f.fs.taken(len(b))], offset)
	if err == nil {
		err = syscall.ENOSPC
	}
	return n, err
}

// An edit that was refused for lack of space stays refused, however much of it the disk took before it said so, and whether the server goes
// on or is started again.
func TestARefusedEditIsNotFoundLater(t *testing.T) {
	for name, taken := range map[string]func(int) int{
		"nothing": func(int) int { return 0 },
		"half":    func(n int) int { return n / 2 },
		"all":     func(n int) int { return n },
	} {
		t.Run(name, func(t *testing.T) {
			fsys := &fullFS{FS: crashfs.New(), taken: taken}
			m := open(t, fsys)
			require.NoError(t, m.Commit(manifest.Edit{AddFiles: []manifest.File{fileOf("x", 1, 1)}, Flushed: map[string]uint64{"parquet": 1}}))
			want := m.State()
			fsys.full = true
			refused := manifest.Edit{AddFiles: []manifest.File{fileOf("x", 2, 2)}, Flushed: map[string]uint64{"parquet": 2}}
			require.ErrorIs(t, m.Commit(refused), manifest.ErrNoSpace)
			require.Equal(t, want, m.State())
			fsys.full = false

			// Another process looks at it now.
			found, err := manifest.Read(fsys, dir)
			require.NoError(t, err)
			require.Equal(t, want, found)

			require.NoError(t, m.Commit(manifest.Edit{Flushed: map[string]uint64{"parquet": 3}}))
			require.NoError(t, m.Close())
			found = open(t, fsys).State()
			require.Equal(t, want.Files, found.Files)
			require.EqualValues(t, 3, found.Flushed["parquet"])
		})
	}
}
