package wal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

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
