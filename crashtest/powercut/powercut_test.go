package powercut_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest/powercut"
)

// mounted is a disk with a mount that tests can cut. Cuts in tests happen between operations, so nothing ever blocks.
type mounted struct {
	t    *testing.T
	disk *powercut.Disk
	dir  string
	m    *powercut.Mounted
}

func mount(t *testing.T) *mounted {
	t.Helper()
	f := &mounted{t: t, disk: powercut.NewDisk(), dir: t.TempDir()}
	f.remount()
	t.Cleanup(func() { require.NoError(t, f.m.Unmount()) })
	return f
}

func (f *mounted) remount() {
	f.t.Helper()
	var err error
	f.m, err = powercut.Mount(f.disk, f.dir)
	require.NoError(f.t, err)
	on, err := powercut.IsMounted(f.dir)
	require.NoError(f.t, err)
	require.True(f.t, on)
}

func (f *mounted) cut(seed uint64) {
	f.t.Helper()
	f.disk.CutNow()
	f.disk.ReleaseBlocked()
	require.NoError(f.t, f.m.Unmount())
	f.disk.Cut(seed)
	f.remount()
}

func (f *mounted) path(name string) string { return filepath.Join(f.dir, name) }

func (f *mounted) syncDir() {
	f.t.Helper()
	dir, err := os.Open(f.dir)
	require.NoError(f.t, err)
	require.NoError(f.t, dir.Sync())
	require.NoError(f.t, dir.Close())
}

func (f *mounted) write(name string, content []byte, sync bool) {
	f.t.Helper()
	file, err := os.OpenFile(f.path(name), os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(f.t, err)
	_, err = file.WriteAt(content, 0)
	require.NoError(f.t, err)
	if sync {
		require.NoError(f.t, syscall.Fdatasync(int(file.Fd())))
	}
	require.NoError(f.t, file.Close())
}

func (f *mounted) read(name string) ([]byte, bool) {
	f.t.Helper()
	content, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	require.NoError(f.t, err)
	return content, true
}

func TestWhatWasSyncedSurvivesEveryCut(t *testing.T) {
	f := mount(t)
	content := bytes.Repeat([]byte("durable "), 1000)
	f.write("a", content, true)
	f.syncDir()
	for seed := range uint64(20) {
		f.write("a", bytes.Repeat([]byte("VOLATILE"), 10), false)
		f.write("a", content, true)
		f.cut(seed)
		got, ok := f.read("a")
		require.True(t, ok)
		require.Equal(t, content, got, "seed %d", seed)
	}
}

func TestWhatWasNotSyncedMayBeLostKeptOrTorn(t *testing.T) {
	f := mount(t)
	old, fresh := bytes.Repeat([]byte{'o'}, 8192), bytes.Repeat([]byte{'n'}, 8192)
	seen := map[string]bool{}
	for seed := range uint64(60) {
		f.write("a", old, true)
		f.syncDir()
		f.write("a", fresh, false)
		f.cut(seed)
		got, ok := f.read("a")
		require.True(t, ok)
		switch {
		case bytes.Equal(got, old):
			seen["lost"] = true
		case bytes.Equal(got, fresh):
			seen["kept"] = true
		default:
			seen["torn"] = true
		}
	}
	require.Equal(t, map[string]bool{"lost": true, "kept": true, "torn": true}, seen)
	require.Positive(t, f.disk.Stats().SectorsDamaged)
}

func TestNamesNeedASyncOfTheirDirectory(t *testing.T) {
	f := mount(t)
	lost := 0
	for seed := range uint64(20) {
		f.write("new", []byte("x"), true)
		f.cut(seed)
		if _, ok := f.read("new"); !ok {
			lost++
			continue
		}
		require.NoError(t, os.Remove(f.path("new")))
		f.syncDir()
	}
	require.Positive(t, lost, "a synced file without a synced name may be lost")
	require.Less(t, lost, 20)

	f.write("temp", []byte("content"), true)
	require.NoError(t, os.Rename(f.path("temp"), f.path("final")))
	f.syncDir()
	f.cut(99)
	got, ok := f.read("final")
	require.True(t, ok)
	require.Equal(t, "content", string(got))
}

func TestOneSeedMakesOneState(t *testing.T) {
	state := func() []byte {
		f := mount(t)
		f.write("a", make([]byte, 8192), true)
		f.syncDir()
		f.write("a", bytes.Repeat([]byte{1}, 8192), false)
		f.cut(7)
		got, _ := f.read("a")
		return got
	}
	require.Equal(t, state(), state())
}

func TestThePowerGoesAtTheChosenOperation(t *testing.T) {
	f := mount(t)
	f.write("a", []byte("one"), true)
	f.syncDir()
	f.disk.CutAt(powercut.CutPoint{Op: powercut.Sync, N: 2, After: true})
	f.write("a", []byte("two"), true)
	select {
	case <-f.disk.Lost():
		t.Fatal("the power went one sync too early")
	default:
	}
	blocked := make(chan error, 1)
	go func() {
		file, err := os.OpenFile(f.path("a"), os.O_WRONLY, 0)
		if err == nil {
			_, _ = file.WriteAt([]byte("six"), 0)
			err = file.Sync()
			err = errors.Join(err, file.Close())
		}
		blocked <- err
	}()
	<-f.disk.Lost()
	select {
	case err := <-blocked:
		t.Fatalf("the sync was answered without power: %v", err)
	default:
	}
	f.disk.ReleaseBlocked()
	require.ErrorIs(t, <-blocked, syscall.EIO)
	require.NoError(t, f.m.Unmount())
	f.disk.Cut(1)
	f.remount()
	got, _ := f.read("a")
	require.Equal(t, "six", string(got), "the sync had taken effect before the power went")
}

// reopened opens a file for writing.
func (f *mounted) reopened(name string) *os.File {
	f.t.Helper()
	file, err := os.OpenFile(f.path(name), os.O_RDWR, 0o644)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = file.Close() })
	return file
}

func named(path string) func(string) bool { return func(p string) bool { return p == path } }

// TestAFailedSyncLosesWhatASecondOneDoesNotBring: readers see the bytes, the second sync succeeds, and still the power takes them.
func TestAFailedSyncLosesWhatASecondOneDoesNotBring(t *testing.T) {
	f := mount(t)
	f.write("a", []byte("old"), true)
	f.syncDir()
	lost := 0
	for seed := range uint64(20) {
		f.write("a", []byte("old"), true)
		injection := f.disk.Inject(powercut.Fault{Op: powercut.Sync, Match: named("a"), Errno: syscall.EIO, Seed: seed})
		file := f.reopened("a")
		_, err := file.WriteAt([]byte("new"), 0)
		require.NoError(t, err)
		require.ErrorIs(t, file.Sync(), syscall.EIO)
		<-injection.Hit()
		require.Equal(t, "a", injection.Path())
		require.NoError(t, file.Sync(), "the pages count as clean")
		require.NoError(t, file.Close())
		got, _ := f.read("a")
		require.Equal(t, "new", string(got))
		f.cut(seed)
		if got, _ = f.read("a"); string(got) == "old" {
			lost++
		}
	}
	require.Positive(t, lost)
	require.Less(t, lost, 20)
}

func TestAFailedSyncOfADirectoryLosesNames(t *testing.T) {
	f := mount(t)
	lost := 0
	for seed := range uint64(20) {
		f.write("new", []byte("x"), true)
		f.disk.Inject(powercut.Fault{Op: powercut.SyncDir, Errno: syscall.EIO, Seed: seed})
		dir, err := os.Open(f.dir)
		require.NoError(t, err)
		require.ErrorIs(t, dir.Sync(), syscall.EIO)
		require.NoError(t, dir.Sync())
		require.NoError(t, dir.Close())
		f.cut(seed)
		if _, ok := f.read("new"); !ok {
			lost++
			continue
		}
		require.NoError(t, os.Remove(f.path("new")))
		f.syncDir()
	}
	require.Positive(t, lost)
	require.Less(t, lost, 20)
}

func TestOtherOperationsFailWithoutEffect(t *testing.T) {
	f := mount(t)
	f.write("a", []byte("content"), true)
	for _, fault := range []struct {
		op powercut.Op
		do func() error
	}{
		{powercut.Create, func() error { return os.WriteFile(f.path("b"), nil, 0o644) }},
		{powercut.Rename, func() error { return os.Rename(f.path("a"), f.path("b")) }},
		{powercut.Remove, func() error { return os.Remove(f.path("a")) }},
		{powercut.Resize, func() error { return os.Truncate(f.path("a"), 1) }},
	} {
		f.disk.Inject(powercut.Fault{Op: fault.op, N: 1, Errno: syscall.EIO})
		require.ErrorIs(t, fault.do(), syscall.EIO, fault.op)
		got, ok := f.read("a")
		require.True(t, ok)
		require.Equal(t, "content", string(got))
		_, ok = f.read("b")
		require.False(t, ok)
	}
}

func TestAShortWriteSaysWhatItTook(t *testing.T) {
	f := mount(t)
	f.write("a", nil, true)
	file := f.reopened("a")
	for wrote, took := range map[int]int{4096: 2048, 1024: 512, 700: 350, 1: 1} {
		f.disk.Inject(powercut.Fault{Op: powercut.Write, Short: true})
		n, err := syscall.Pwrite(int(file.Fd()), make([]byte, wrote), 0)
		require.NoError(t, err)
		require.Equal(t, took, n)
	}
	f.disk.Inject(powercut.Fault{Op: powercut.Write, Errno: syscall.EINTR})
	_, err := syscall.Pwrite(int(file.Fd()), []byte("x"), 0)
	require.ErrorIs(t, err, syscall.EINTR)
}

// TestASlowSyncCoversWhatWasThereWhenItBegan: what is written meanwhile is another sync's business.
func TestASlowSyncCoversWhatWasThereWhenItBegan(t *testing.T) {
	f := mount(t)
	f.write("a", []byte("........"), true)
	f.syncDir()
	injection := f.disk.Inject(powercut.Fault{Op: powercut.Sync, Delay: 300 * time.Millisecond})
	file := f.reopened("a")
	_, err := file.WriteAt([]byte("1"), 0)
	require.NoError(t, err)
	synced := make(chan error, 1)
	go func() { synced <- syscall.Fdatasync(int(file.Fd())) }()
	<-injection.Hit()
	_, err = file.WriteAt([]byte("2"), 1)
	require.NoError(t, err)
	require.NoError(t, <-synced)
	require.NoError(t, file.Close())
	f.disk.CutNow()
	f.disk.ReleaseBlocked()
	require.NoError(t, f.m.Unmount())
	f.disk.CutLosingAll()
	f.remount()
	got, _ := f.read("a")
	require.Equal(t, "1.......", string(got))
}

// TestThePowerGoesDuringASlowSync: it does not wait, and what it was to sync may be lost.
func TestThePowerGoesDuringASlowSync(t *testing.T) {
	f := mount(t)
	f.write("a", []byte("old"), true)
	f.syncDir()
	injection := f.disk.Inject(powercut.Fault{Op: powercut.Sync, Delay: time.Hour})
	file := f.reopened("a")
	_, err := file.WriteAt([]byte("new"), 0)
	require.NoError(t, err)
	synced := make(chan error, 1)
	go func() { synced <- syscall.Fdatasync(int(file.Fd())) }()
	<-injection.Hit()
	f.disk.CutNow()
	f.disk.ReleaseBlocked()
	require.ErrorIs(t, <-synced, syscall.EIO)
	require.NoError(t, file.Close())
	require.NoError(t, f.m.Unmount())
	f.disk.CutLosingAll()
	f.remount()
	got, _ := f.read("a")
	require.Equal(t, "old", string(got))
}

// TestAFullDisk: a write takes what there is room for, then none; what has its blocks can be written; removal gives space back.
func TestAFullDisk(t *testing.T) {
	const block = 4096
	f := mount(t)
	f.write("a", make([]byte, 3*block), true)
	require.Equal(t, int64(3*block), f.disk.UsedBytes())
	f.disk.SetQuota(5*block + 100)
	file := f.reopened("a")
	n, err := syscall.Pwrite(int(file.Fd()), make([]byte, 4*block), 3*block-10)
	require.NoError(t, err)
	require.Equal(t, 10+2*block, n)
	_, err = syscall.Pwrite(int(file.Fd()), []byte("x"), 5*block)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorIs(t, os.WriteFile(f.path("b"), nil, 0o644), syscall.ENOSPC)
	_, err = file.WriteAt([]byte("has its block"), 0)
	require.NoError(t, err)
	require.NoError(t, file.Truncate(20*block), "a hole takes no space")
	_, err = file.WriteAt([]byte("x"), 10*block)
	require.ErrorIs(t, err, syscall.ENOSPC)

	const keepSize = 1
	require.NoError(t, file.Truncate(block))
	require.Equal(t, int64(block), f.disk.UsedBytes())
	require.NoError(t, syscall.Fallocate(int(file.Fd()), keepSize, 0, 4*block))
	require.ErrorIs(t, syscall.Fallocate(int(file.Fd()), keepSize, 0, 8*block), syscall.ENOSPC)
	require.Equal(t, int64(4*block), f.disk.UsedBytes(), "a reservation is had whole or not at all")
	info, err := file.Stat()
	require.NoError(t, err)
	require.Equal(t, int64(block), info.Size())
	require.NoError(t, file.Close())
	f.syncDir()
	f.cut(1)
	require.LessOrEqual(t, f.disk.UsedBytes(), int64(20*block), "after a cut a file has all of its length")
	require.NoError(t, os.Remove(f.path("a")))
	require.Zero(t, f.disk.UsedBytes())
}
