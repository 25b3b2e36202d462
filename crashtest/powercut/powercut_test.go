package powercut_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

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
