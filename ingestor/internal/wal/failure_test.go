package wal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// failOn returns a hook that fails the n-th operation of a kind, counted from 1, and lets all others be.
func failOn(kind crashfs.Kind, n int64, err error) func(crashfs.Op) error {
	var seen atomic.Int64
	return func(op crashfs.Op) error {
		if op.Kind == kind && seen.Add(1) == n {
			return err
		}
		return nil
	}
}

func memoryOptions(fsys *crashfs.FS) Options {
	opt := smallOptions("wal")
	opt.FS, opt.SpareSegments = fsys, -1
	return opt
}

func TestFailedWriteOrSyncPoisonsForGood(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Write, crashfs.Sync} {
		t.Run(string(kind), func(t *testing.T) {
			fsys := crashfs.New()
			w := mustOpen(t, memoryOptions(fsys))
			acked := write(t, w, 3, 2)
			fsys.Before(failOn(kind, 1, syscall.EIO))
			_, err := w.Append(entryFor(w.NextLSN()))
			require.NoError(t, err)
			durable := w.DurableLSN()
			err = w.Sync()
			require.ErrorIs(t, err, ErrPoisoned)
			require.ErrorIs(t, err, syscall.EIO)
			fsys.Before(func(op crashfs.Op) error {
				require.Failf(t, "poisoned", "%s of %s", op.Kind, op.Name)
				return nil
			})
			require.ErrorIs(t, w.Sync(), ErrPoisoned)
			require.ErrorIs(t, w.MarkDurable(), ErrPoisoned)
			require.ErrorIs(t, w.TruncateBelow(2), ErrPoisoned)
			_, err = w.Append(entryFor(1))
			require.ErrorIs(t, err, ErrPoisoned)
			require.Equal(t, durable, w.DurableLSN())
			require.Equal(t, acked, replayed(t, w, 0), "what was durable can be read")
			require.NoError(t, w.Close())
			fsys.Before(nil)

			rng := rand.New(rand.NewPCG(1, 1))
			for range 100 {
				after := mustOpen(t, memoryOptions(fsys.Crash(rng)))
				require.Subset(t, replayed(t, after, 0), acked)
				require.NoError(t, after.Close())
			}
		})
	}
}

func TestFailureWhileASegmentBeginsPoisons(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Write, crashfs.Sync, crashfs.Rename, crashfs.SyncDir} {
		t.Run(string(kind), func(t *testing.T) {
			fsys := crashfs.New()
			w := mustOpen(t, memoryOptions(fsys))
			acked := write(t, w, 2, 2)
			require.NoError(t, w.Close())
			w = mustOpen(t, memoryOptions(fsys))
			_, err := w.Append(entryFor(w.NextLSN()))
			require.NoError(t, err)
			fsys.Before(failOn(kind, 1, syscall.EIO))
			require.ErrorIs(t, w.Sync(), ErrPoisoned)
			require.ErrorIs(t, w.Sync(), ErrPoisoned)
			fsys.Before(nil)
			require.NoError(t, w.Close())
			after := mustOpen(t, memoryOptions(fsys.Crash(rand.New(rand.NewPCG(1, 1)))))
			require.Equal(t, acked, replayed(t, after, 0))
			require.NoError(t, after.Close())
		})
	}
}

func TestNoSpaceLosesNothingAndPasses(t *testing.T) {
	for _, limit := range []string{"disk", "MaxSizeBytes"} {
		t.Run(limit, func(t *testing.T) {
			fsys := crashfs.New()
			opt := memoryOptions(fsys)
			if limit == "disk" {
				fsys.SetCapacity(3*opt.SegmentSizeBytes + 8192)
			} else {
				opt.MaxSizeBytes = 3 * opt.SegmentSizeBytes
			}
			w := mustOpen(t, opt)
			var acked []LSN
			var err error
			for err == nil {
				before := w.NextLSN()
				_, appendErr := w.Append(entryFor(before))
				require.NoError(t, appendErr)
				if err = w.Sync(); err == nil {
					acked = append(acked, before)
				}
			}
			require.ErrorIs(t, err, ErrNoSpace)
			require.NotErrorIs(t, err, ErrPoisoned)
			require.Equal(t, w.DurableLSN()+1, w.NextLSN(), "the group is dropped")
			require.Equal(t, acked, replayed(t, w, 0), "reads go on")

			_, err = w.Append(entryFor(w.NextLSN()))
			require.NoError(t, err)
			require.ErrorIs(t, w.Sync(), ErrNoSpace, "and again")

			t.Run("a restart changes nothing", func(t *testing.T) {
				again := opt
				again.FS = fsys.Crash(rand.New(rand.NewPCG(1, 1)))
				restarted := mustOpen(t, again)
				require.Equal(t, acked, replayed(t, restarted, 0))
				require.NoError(t, restarted.Close())
			})

			require.NoError(t, w.TruncateBelow(acked[len(acked)-1]), "flushes go on")
			acked = append(acked, write(t, w, 3, 1)...)
			got := replayed(t, w, 0)
			require.Equal(t, acked[len(acked)-len(got):], got)
			require.NoError(t, w.Close())
		})
	}
}

// A log that exists opens on a disk without a free block: it is read, it refuses to write, it can be cut, and writes once there is space.
func TestAFullDiskDoesNotKeepALogFromOpening(t *testing.T) {
	for _, direct := range []DirectIO{DirectAuto, DirectOn, DirectOff} {
		fsys := crashfs.New()
		opt := smallOptions("wal")
		opt.FS, opt.SpareSegments, opt.DirectIO = fsys, -1, direct
		w := mustOpen(t, opt)
		acked := write(t, w, 40, 3)
		require.NoError(t, w.Close())

		fsys.SetCapacity(1)
		w = mustOpen(t, opt)
		require.Equal(t, acked, replayed(t, w, 0))
		refuse := func() {
			before := w.NextLSN()
			_, err := w.Append(entryFor(before))
			require.NoError(t, err)
			require.ErrorIs(t, w.Sync(), ErrNoSpace)
			require.Equal(t, before, w.NextLSN())
		}
		refuse()
		require.NoError(t, w.Close())
		w = mustOpen(t, opt) // and again: it has changed nothing
		refuse()
		require.Equal(t, acked, replayed(t, w, 0))
		require.NoError(t, w.TruncateBelow(w.NextLSN()))
		fsys.SetCapacity(0)
		require.Eventually(t, func() bool {
			_, err := w.Append(entryFor(w.NextLSN()))
			require.NoError(t, err)
			if err = w.Sync(); err != nil {
				require.ErrorIs(t, err, ErrNoSpace)
			}
			return err == nil
		}, 20*time.Second, time.Millisecond)
		require.Equal(t, direct != DirectOff, w.direct == vfs.Direct)
		require.False(t, w.undecided)
		acked = append(acked, acked[len(acked)-1]+LSN(entryFor(acked[len(acked)-1]).Records))
		acked = append(acked, write(t, w, 40, 3)...)
		got := replayed(t, w, 0)
		require.Equal(t, acked[len(acked)-len(got):], got)
		require.Greater(t, len(got), 120)
		require.NoError(t, w.Close())
		fsys.SetCapacity(0)
	}
}

// What could not be tried on a full disk is tried when the first segment is begun.
func TestAFileSystemWithoutDirectIOThatWasFull(t *testing.T) {
	for _, atOpen := range []bool{true, false} {
		for _, mode := range []DirectIO{DirectAuto, DirectOn} {
			memory := crashfs.New()
			refusing := &readingFS{FS: memory}
			opt := smallOptions("wal")
			opt.FS, opt.SpareSegments, opt.DirectIO = refusing, -1, DirectOff
			w := mustOpen(t, opt)
			acked := write(t, w, 4, 3)
			require.NoError(t, w.Close())

			memory.SetCapacity(1)
			opt.DirectIO = mode
			w = mustOpen(t, opt)
			require.True(t, w.undecided)
			memory.SetCapacity(0)
			refuse := func(flag int) error {
				if flag&vfs.Direct != 0 && flag&os.O_RDWR != 0 {
					return syscall.EINVAL
				}
				return nil
			}
			if atOpen {
				refusing.onOpen = refuse
			} else {
				refusing.onWrite = refuse
			}
			_, err := w.Append(entryFor(w.NextLSN()))
			require.NoError(t, err)
			err = w.Sync()
			if mode == DirectOn {
				require.ErrorIs(t, err, ErrPoisoned)
				require.NoError(t, w.Close())
				continue
			}
			require.NoError(t, err)
			require.Zero(t, w.direct)
			require.Equal(t, len(acked)+1, len(replayed(t, w, 0)))
			require.NoError(t, w.Close())
		}
	}
}

// On a full disk files are not made and removed for every group that is refused.
func TestAFullDiskIsNotTriedForEveryGroup(t *testing.T) {
	fsys := crashfs.New()
	opt := smallOptions("wal")
	opt.FS, opt.SpareSegments = fsys, -1
	w := mustOpen(t, opt)
	write(t, w, 1, 1)
	require.NoError(t, w.Close())
	w = mustOpen(t, opt)
	fsys.SetCapacity(1)
	var made atomic.Int64
	fsys.Before(func(op crashfs.Op) error {
		if op.Kind == crashfs.Create {
			made.Add(1)
		}
		return nil
	})
	began := time.Now()
	const groups = 20000
	for range groups {
		_, err := w.Append(entryFor(w.NextLSN()))
		require.NoError(t, err)
		require.ErrorIs(t, w.Sync(), ErrNoSpace)
	}
	// 0, 1, 2 to 128 ms after each other, then every 128 ms.
	require.LessOrEqual(t, made.Load(), 10+int64(time.Since(began)/maxFullPause))
	require.NoError(t, w.Close())
}

func TestFullDiskPauses(t *testing.T) {
	var f fullDisk
	now := time.Now()
	for _, want := range []int64{0, 1, 2, 4, 8, 16, 32, 64, 128, 128, 128, 128, 128} {
		f.failed(now, ErrNoSpace)
		require.Equal(t, time.Duration(want)*time.Millisecond, f.until.Sub(now))
	}
}

func TestSpareThatFailsIsNoAccident(t *testing.T) {
	fsys := crashfs.New()
	opt := smallOptions("wal")
	opt.FS = fsys
	w := mustOpen(t, opt)
	spareWrites := func(op crashfs.Op) error {
		// Zeros are written from offset 0, but so are headers: a spare is what has one step to fill.
		if isSpareName(filepath.Base(op.Name)) && op.Kind == crashfs.Write && op.Length > segmentHeaderBytes {
			return syscall.EIO
		}
		return nil
	}
	fsys.Before(spareWrites)
	acked := write(t, w, 100, 3)
	require.Greater(t, w.segmentCount(), 2)
	require.Equal(t, acked, replayed(t, w, 0))
	require.NoError(t, w.Close())
}

func TestTruncateFailures(t *testing.T) {
	t.Run("a failed rename or removal leaves the segment", func(t *testing.T) {
		fsys := crashfs.New()
		w := mustOpen(t, memoryOptions(fsys))
		acked := write(t, w, 100, 3)
		fsys.Before(failOn(crashfs.Remove, 1, syscall.EIO))
		require.ErrorIs(t, w.TruncateBelow(w.DurableLSN()), syscall.EIO)
		require.Equal(t, acked, replayed(t, w, 0))
		require.NoError(t, w.TruncateBelow(w.DurableLSN()))
		require.Equal(t, 1, w.segmentCount())
		require.ErrorIs(t, w.Replay(context.Background(), 1, nil), ErrTruncated)
		require.NoError(t, w.Close())
	})
	t.Run("a failed sync of the directory poisons", func(t *testing.T) {
		fsys := crashfs.New()
		w := mustOpen(t, memoryOptions(fsys))
		write(t, w, 100, 3)
		fsys.Before(failOn(crashfs.SyncDir, 1, syscall.EIO))
		require.ErrorIs(t, w.TruncateBelow(w.DurableLSN()), ErrPoisoned)
		require.NoError(t, w.Close())
	})
}

func TestOpenFailsCleanlyAtEveryOperation(t *testing.T) {
	img := newImage(t, false)
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for n := 1; ; n++ {
			fsys := img.mount(t, "", nil)
			var ops atomic.Int64
			fsys.Before(func(crashfs.Op) error {
				if ops.Add(1) == int64(n) {
					return cause
				}
				return nil
			})
			opt := repairOptions(fsys, img)
			opt.SpareSegments = 1
			w, err := Open(context.Background(), opt)
			done := ops.Load() < int64(n)
			fsys.Before(nil)
			if err == nil {
				require.Equal(t, img.firsts, replayed(t, w, 0), fmt.Sprint(n))
				require.NoError(t, w.Close())
			}
			w = mustOpen(t, opt)
			require.Equal(t, img.firsts, replayed(t, w, 0), fmt.Sprint(n))
			require.NoError(t, w.Close())
			if done {
				break
			}
		}
	}
}
