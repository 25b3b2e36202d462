package wal

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// appendEntries appends n entries and returns their first LSNs.
func appendEntries(t *testing.T, w *WAL, n int) (firsts []LSN) {
	t.Helper()
	for range n {
		first, err := w.Append(entryFor(w.NextLSN()))
		require.NoError(t, err)
		firsts = append(firsts, first)
	}
	return firsts
}

// begun begins the current group and returns when its sync has begun; the sync ends when release is closed.
func begun(t *testing.T, w *WAL, fsys *crashfs.FS) (release chan struct{}) {
	t.Helper()
	entered := make(chan struct{})
	release = make(chan struct{})
	fsys.Before(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync {
			fsys.Before(nil)
			close(entered)
			<-release
		}
		return nil
	})
	require.NoError(t, w.Begin())
	<-entered
	return release
}

func TestTheNextGroupFillsWhileOneIsUnderWay(t *testing.T) {
	fsys := crashfs.New()
	w := mustOpen(t, memoryOptions(fsys))
	require.NoError(t, w.Begin(), "there is nothing to do")
	acked := write(t, w, 1, 2)

	group := appendEntries(t, w, 2)
	release := begun(t, w, fsys)
	durable := w.DurableLSN()
	next := appendEntries(t, w, 3)
	require.ErrorIs(t, w.Sync(), errUnderWay)
	require.ErrorIs(t, w.Begin(), errUnderWay)
	require.NoError(t, w.MarkDurable())
	require.Equal(t, durable, w.DurableLSN(), "nothing is durable before its sync has ended")
	require.Equal(t, acked, replayed(t, w, 0), "nor does a reader see it")
	close(release)
	require.NoError(t, <-w.Done())
	require.Equal(t, next[0]-1, w.DurableLSN())

	rng := rand.New(rand.NewPCG(1, 1))
	after := mustOpen(t, memoryOptions(fsys.Crash(rng)))
	require.Equal(t, append(acked, group...), replayed(t, after, 0))
	require.NoError(t, after.Close())

	require.NoError(t, w.Begin())
	require.NoError(t, <-w.Done())
	require.NoError(t, w.Close())
	after = mustOpen(t, memoryOptions(fsys.Crash(rng)))
	require.Equal(t, append(append(acked, group...), next...), replayed(t, after, 0))
	require.NoError(t, after.Close())
}

// TestPowerCutWhileTheNextGroupFills cuts the power at every operation. What is found is everything acked and some first part of
// the group under way, and never anything of the group that is filling.
func TestPowerCutWhileTheNextGroupFills(t *testing.T) {
	run := crashlevel.Start(t, "WAL states, a group under way", "states", "./ingestor/internal/wal")
	test := &stateTest{
		explorer: &crashfs.Explorer{Seed: run.Seed()}, opt: crashOptions(nil),
		bound: crashlevel.Pick(t, 3, 500, 20_000), spareBound: 3, deepEvery: 40, deepBound: 3,
	}
	rng := rand.New(rand.NewPCG(run.Seed(), 1))
	fsys := crashfs.New()
	o := &oracle{below: 1}
	// Operations come from this goroutine before Begin returns, and from the syncer until Done delivers: never from both.
	test.watch(fsys, "a group under way", o)
	w := mustOpen(t, crashOptions(fsys))
	w.spares.stop()
	appendGroup := func(n, attempt int) (group []sentEntry) {
		for range n {
			s := sentEntry{w.NextLSN(), uint32(attempt), 900}
			_, err := w.Append(s.entry())
			require.NoError(t, err)
			group = append(group, s)
		}
		return group
	}
	o.sent = appendGroup(2, 0)
	for round := range 40 {
		entries := 1 + rng.IntN(4)
		require.NoError(t, w.Begin())
		next := appendGroup(entries, round)
		require.NoError(t, <-w.Done())
		o.ack()
		o.sent = next
	}
	require.NoError(t, w.Close())
	explored, _, err := test.explorer.Wait()
	run.Explored(explored + test.deeper.Load())
	require.NoError(t, err)
}

func TestAGroupThatFailsUnderWayPoisons(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Write, crashfs.Sync} {
		t.Run(string(kind), func(t *testing.T) {
			fsys := crashfs.New()
			w := mustOpen(t, memoryOptions(fsys))
			acked := write(t, w, 2, 2)
			appendEntries(t, w, 2)
			fsys.Before(failOn(kind, 1, syscall.EIO))
			require.NoError(t, w.Begin())
			err := <-w.Done()
			require.ErrorIs(t, err, ErrPoisoned)
			require.ErrorIs(t, err, syscall.EIO)
			_, err = w.Append(entryFor(w.NextLSN()))
			require.ErrorIs(t, err, ErrPoisoned)
			require.ErrorIs(t, w.Begin(), ErrPoisoned)
			require.Equal(t, acked, replayed(t, w, 0))
			require.NoError(t, w.Close())
		})
	}
}

func TestBeginWithoutSpaceDropsTheGroup(t *testing.T) {
	fsys := crashfs.New()
	opt := memoryOptions(fsys)
	opt.MaxSizeBytes = 2 * opt.SegmentSizeBytes
	w := mustOpen(t, opt)
	var acked []LSN
	for {
		group := appendEntries(t, w, 2)
		if err := w.Begin(); err != nil {
			require.ErrorIs(t, err, ErrNoSpace)
			require.Equal(t, group[0], w.NextLSN(), "its positions are given out again")
			break
		}
		require.NoError(t, <-w.Done())
		acked = append(acked, group...)
	}
	require.Equal(t, acked, replayed(t, w, 0))
	require.NoError(t, w.Close())
}

func TestCloseLetsAGroupUnderWayEnd(t *testing.T) {
	fsys := crashfs.New()
	w := mustOpen(t, memoryOptions(fsys))
	acked := write(t, w, 1, 1)
	group := appendEntries(t, w, 2)
	release := begun(t, w, fsys)
	appendEntries(t, w, 1)
	closed := make(chan error)
	go func() { closed <- w.Close() }()
	close(release)
	require.NoError(t, <-closed)
	require.NoError(t, <-w.Done())
	after := mustOpen(t, memoryOptions(fsys.Crash(rand.New(rand.NewPCG(1, 1)))))
	require.Equal(t, append(acked, group...), replayed(t, after, 0))
	require.NoError(t, after.Close())
}

func TestBeginAllocatesNothing(t *testing.T) {
	opt := smallOptions(t.TempDir())
	opt.SegmentSizeBytes = 8 << 20
	w := mustOpen(t, opt)
	e := entryFor(1)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if _, err := w.Append(e); err != nil {
			panic(err)
		}
		if err := w.Begin(); err != nil {
			panic(fmt.Sprint(err))
		}
		if err := <-w.Done(); err != nil {
			panic(err)
		}
	}))
	require.NoError(t, w.Close())
}
