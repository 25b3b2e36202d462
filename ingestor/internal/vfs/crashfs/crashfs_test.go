package crashfs

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// states returns the distinct contents of name over many power cuts; "" with false stands for a file that is not there.
func states(t *testing.T, f *FS, name string) (contents map[string]bool, missing bool) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	contents = map[string]bool{}
	for range 500 {
		b, err := vfs.ReadFile(f.Crash(rng), name)
		if errors.Is(err, fs.ErrNotExist) {
			missing = true
			continue
		}
		require.NoError(t, err)
		contents[string(b)] = true
	}
	return contents, missing
}

func create(t *testing.T, f *FS, name string) vfs.File {
	t.Helper()
	file, err := f.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	return file
}

func writeAt(t *testing.T, file vfs.File, b []byte, offset int64) {
	t.Helper()
	_, err := file.WriteAt(b, offset)
	require.NoError(t, err)
}

func TestUnsyncedFileMayBeAnything(t *testing.T) {
	f := New()
	file := create(t, f, "a")
	a := bytes.Repeat([]byte("a"), 8192)
	writeAt(t, file, a, 0)

	contents, missing := states(t, f, "a")
	require.True(t, missing, "the name is not durable")
	require.True(t, contents[""])
	require.True(t, contents[string(a)])
	require.True(t, contents[string(make([]byte, 8192))], "the size may be ahead of the data")
	require.Greater(t, len(contents), 20, "torn and garbage")
}

func TestSyncedFileIsExactlyThat(t *testing.T) {
	f := New()
	require.NoError(t, f.MkdirAll("/d/e", 0o755))
	require.NoError(t, f.SyncDir("/"))
	require.NoError(t, f.SyncDir("/d"))
	file := create(t, f, "/d/e/a")
	writeAt(t, file, []byte("hello"), 0)
	require.NoError(t, file.Datasync())
	require.NoError(t, f.SyncDir("/d/e"))

	contents, missing := states(t, f, "d/e/a")
	require.False(t, missing)
	require.Equal(t, map[string]bool{"hello": true}, contents)

	t.Run("an overwrite is old, new, zero or garbage", func(t *testing.T) {
		writeAt(t, file, []byte("HELLO"), 0)
		contents, _ = states(t, f, "d/e/a")
		require.True(t, contents["hello"])
		require.True(t, contents["HELLO"])
		require.True(t, contents["\x00\x00\x00\x00\x00"])
	})
	t.Run("a truncation happens or not", func(t *testing.T) {
		require.NoError(t, file.Sync())
		require.NoError(t, file.Truncate(1))
		contents, _ = states(t, f, "d/e/a")
		require.Equal(t, map[string]bool{"HELLO": true, "H": true}, contents)
	})
}

func TestRenameIsAtomic(t *testing.T) {
	f := New()
	for _, name := range []string{"old", "target"} {
		file := create(t, f, name)
		writeAt(t, file, []byte(name), 0)
		require.NoError(t, file.Sync())
	}
	require.NoError(t, f.SyncDir("."))
	require.NoError(t, f.Rename("old", "target"))
	require.NoError(t, f.Rename("target", "third"))

	rng := rand.New(rand.NewPCG(3, 4))
	seen := map[string]bool{}
	for range 200 {
		after := f.Crash(rng)
		names, err := after.List(".")
		require.NoError(t, err)
		holders := 0
		for _, name := range names {
			b, err := vfs.ReadFile(after, name)
			require.NoError(t, err)
			if string(b) == "old" {
				holders++
				seen[name] = true
			}
		}
		require.Equal(t, 1, holders, "the renamed file has one name: %v", names)
	}
	require.Equal(t, map[string]bool{"old": true, "target": true, "third": true}, seen)
	require.NoError(t, f.SyncDir("."))
	names, err := f.Crash(rng).List(".")
	require.NoError(t, err)
	require.Equal(t, []string{"third"}, names)
}

func TestRemoveIsDurableAfterSyncDir(t *testing.T) {
	f := New()
	create(t, f, "a")
	require.NoError(t, f.SyncDir("."))
	require.NoError(t, f.Remove("a"))
	contents, missing := states(t, f, "a")
	require.True(t, missing)
	require.NotEmpty(t, contents)
	require.NoError(t, f.SyncDir("."))
	contents, missing = states(t, f, "a")
	require.True(t, missing)
	require.Empty(t, contents)
}

func TestFailedSyncMarksPagesClean(t *testing.T) {
	f := New()
	file := create(t, f, "a")
	require.NoError(t, f.SyncDir("."))
	writeAt(t, file, []byte("lost"), 0)
	f.Before(func(op Op) error {
		if op.Kind == Sync {
			return syscall.EIO
		}
		return nil
	})
	require.ErrorIs(t, file.Datasync(), syscall.EIO)
	f.Before(nil)
	require.NoError(t, file.Datasync(), "a second sync lies")

	b, err := vfs.ReadFile(f, "a")
	require.NoError(t, err)
	require.Equal(t, "lost", string(b), "the program still sees it")
	contents, _ := states(t, f, "a")
	require.True(t, contents[""], "and yet it may not be there after a power cut")
}

func TestFailedSyncDirMarksNamesClean(t *testing.T) {
	f := New()
	create(t, f, "a")
	f.Before(func(Op) error { return syscall.EIO })
	require.ErrorIs(t, f.SyncDir("."), syscall.EIO)
	f.Before(nil)
	require.NoError(t, f.SyncDir("."))
	_, missing := states(t, f, "a")
	require.True(t, missing)
}

func TestCapacity(t *testing.T) {
	f := New()
	f.SetCapacity(1000)
	file := create(t, f, "a")
	require.NoError(t, file.Preallocate(800))
	other := create(t, f, "b")
	_, err := other.WriteAt(make([]byte, 300), 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.True(t, vfs.IsNoSpace(err))
	writeAt(t, file, make([]byte, 800), 0)
	require.NoError(t, f.Remove("a"))
	writeAt(t, other, make([]byte, 300), 0)
}

func TestCrashDependsOnTheSeedAlone(t *testing.T) {
	f := New()
	for _, name := range []string{"a", "b", "c", "d"} {
		writeAt(t, create(t, f, name), bytes.Repeat([]byte(name), 5000), 100)
	}
	one, two := rand.New(rand.NewPCG(9, 9)), rand.New(rand.NewPCG(9, 9))
	for range 50 {
		a, b := f.Crash(one), f.Crash(two)
		names, err := a.List(".")
		require.NoError(t, err)
		other, err := b.List(".")
		require.NoError(t, err)
		require.Equal(t, names, other)
		for _, name := range names {
			x, err := vfs.ReadFile(a, name)
			require.NoError(t, err)
			y, err := vfs.ReadFile(b, name)
			require.NoError(t, err)
			require.True(t, bytes.Equal(x, y))
		}
	}
}

func TestCrashedFileSystemIsItsOwn(t *testing.T) {
	f := New()
	file := create(t, f, "a")
	writeAt(t, file, []byte("one"), 0)
	require.NoError(t, file.Sync())
	require.NoError(t, f.SyncDir("."))
	after := f.Crash(rand.New(rand.NewPCG(1, 1)))
	copied := create(t, after, "a")
	writeAt(t, copied, []byte("TWO"), 0)
	require.NoError(t, copied.Sync())
	writeAt(t, file, []byte("x"), 0)
	for want, fsys := range map[string]*FS{"xne": f, "TWO": after} {
		b, err := vfs.ReadFile(fsys, "a")
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
}
