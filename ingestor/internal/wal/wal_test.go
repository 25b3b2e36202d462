package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// smallOptions make segments so small that a few groups fill one.
func smallOptions(dir string) Options {
	return Options{Dir: dir, SegmentSizeBytes: 64 << 10, MaxGroupBytes: 16 << 10, SpareSegments: 1}
}

func mustOpen(t testing.TB, opt Options) *WAL {
	t.Helper()
	w, err := Open(context.Background(), opt)
	require.NoError(t, err)
	return w
}

// entryFor is the entry whose first LSN is first: its records and payload follow from that alone, so that a replay can be
// judged by identity.
func entryFor(first LSN) Entry {
	r := rand.New(rand.NewPCG(first, 7))
	payload := make([]byte, 8+r.IntN(900))
	binary.LittleEndian.PutUint64(payload, first)
	for i := 8; i < len(payload); i++ {
		payload[i] = byte(r.Uint32())
	}
	cut := r.IntN(len(payload))
	return Entry{Records: 1 + r.Uint32N(5), Parts: [2][]byte{payload[:cut], payload[cut:]}}
}

// write appends and syncs groups of entries and returns the first LSN of each entry.
func write(t testing.TB, w *WAL, groups, entries int) []LSN {
	t.Helper()
	var firsts []LSN
	for range groups {
		for range entries {
			e := entryFor(w.NextLSN())
			first, err := w.Append(e)
			require.NoError(t, err)
			firsts = append(firsts, first)
		}
		require.NoError(t, w.Sync())
		require.Equal(t, w.NextLSN()-1, w.DurableLSN())
	}
	return firsts
}

// isEntry says whether a replayed frame is exactly the entry that was appended with its first LSN.
func isEntry(f Frame) bool {
	e := entryFor(f.First)
	return f.Records == e.Records && bytes.Equal(f.Payload, append(bytes.Clone(e.Parts[0]), e.Parts[1]...))
}

// replayed returns the first LSN of every frame, each judged by identity.
func replayed(t testing.TB, w *WAL, from LSN) []LSN {
	t.Helper()
	var firsts []LSN
	require.NoError(t, w.Replay(context.Background(), from, func(f Frame) error {
		require.True(t, isEntry(f), "frame at LSN %d is not what was appended", f.First)
		firsts = append(firsts, f.First)
		return nil
	}))
	return firsts
}

func TestWriteReopenReplay(t *testing.T) {
	opt := smallOptions(t.TempDir())
	var want []LSN
	var id [16]byte
	for run := range 4 {
		w := mustOpen(t, opt)
		if run == 0 {
			id = w.ID()
		}
		require.Equal(t, id, w.ID())
		require.Equal(t, want, replayed(t, w, 0))
		want = append(want, write(t, w, 40, 3)...)
		require.Equal(t, want, replayed(t, w, 1))
		require.Equal(t, want[30:], replayed(t, w, want[30]))
		require.Equal(t, want[30:], replayed(t, w, want[31]-1))
		require.NoError(t, w.Close())
	}
}

func TestEntriesThatDoNotFit(t *testing.T) {
	w := mustOpen(t, smallOptions(t.TempDir()))
	defer func() { require.NoError(t, w.Close()) }()
	largest := make([]byte, 16<<10-frameHeaderBytes)
	_, err := w.Append(Entry{Records: 1, Parts: [2][]byte{largest, {0}}})
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = w.Append(Entry{Records: 0, Parts: [2][]byte{{1}, nil}})
	require.Error(t, err)

	first, err := w.Append(Entry{Records: 7, Parts: [2][]byte{largest, nil}})
	require.NoError(t, err)
	require.EqualValues(t, 1, first)
	_, err = w.Append(Entry{Records: 1})
	require.ErrorIs(t, err, ErrGroupFull)
	require.NoError(t, w.Sync())
	require.NoError(t, w.Sync(), "an empty group is durable already")
	first, err = w.Append(Entry{Records: 1})
	require.NoError(t, err)
	require.EqualValues(t, 8, first)
	require.NoError(t, w.Sync())
	var frames []Frame
	require.NoError(t, w.Replay(context.Background(), 0, func(f Frame) error {
		f.Payload = bytes.Clone(f.Payload)
		frames = append(frames, f)
		return nil
	}))
	require.Len(t, frames, 2)
	require.True(t, bytes.Equal(largest, frames[0].Payload))
	require.EqualValues(t, 7, frames[0].Last())
	require.Empty(t, frames[1].Payload)
	require.Equal(t, Position{Segment: 1, OffsetBytes: 4096}, frames[0].Position)
}

func TestCloseDropsWhatWasNotSynced(t *testing.T) {
	opt := smallOptions(t.TempDir())
	w := mustOpen(t, opt)
	want := write(t, w, 1, 3)
	_, err := w.Append(entryFor(w.NextLSN()))
	require.NoError(t, err)
	require.Equal(t, want, replayed(t, w, 0))
	require.NoError(t, w.Close())
	require.ErrorIs(t, w.Close(), ErrClosed)
	_, err = w.Append(entryFor(1))
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, w.Sync(), ErrClosed)

	w = mustOpen(t, opt)
	require.Equal(t, want, replayed(t, w, 0))
	require.NoError(t, w.Close())
}

func TestFirstLSN(t *testing.T) {
	opt := smallOptions(t.TempDir())
	opt.FirstLSN = 1000
	w := mustOpen(t, opt)
	require.EqualValues(t, 1000, w.NextLSN())
	want := write(t, w, 2, 2)
	require.EqualValues(t, 1000, want[0])
	require.NoError(t, w.Close())

	// The sinks are ahead of the log: no LSN is given out twice.
	opt.FirstLSN = 5000
	w = mustOpen(t, opt)
	require.EqualValues(t, 4999, w.DurableLSN())
	want = append(want, write(t, w, 60, 3)...)
	require.EqualValues(t, 5000, want[4])
	require.Equal(t, want, replayed(t, w, 1))
	require.Equal(t, want[4:], replayed(t, w, 2000))
	require.NoError(t, w.TruncateBelow(w.NextLSN()))
	require.NoError(t, w.Close())

	// The log was cut above what the sinks have: records are missing.
	opt.FirstLSN = 5001
	_, err := Open(context.Background(), opt)
	var corruption *CorruptionError
	require.ErrorAs(t, err, &corruption)
	require.Contains(t, corruption.Reason, "missing")
}

func TestSegmentsAreRecycled(t *testing.T) {
	fsys := crashfs.New()
	opt := memoryOptions(fsys)
	opt.SpareSegments = 2
	var made atomic.Int64
	fsys.Before(func(op crashfs.Op) error {
		if op.Kind == crashfs.Create && isSpareName(filepath.Base(op.Name)) {
			made.Add(1)
		}
		return nil
	})
	w := mustOpen(t, opt)
	require.Equal(t, 2, w.spares.count(), "one was taken for the first segment")
	var want []LSN
	for w.newest().header.id < 30 {
		want = append(want, write(t, w, 2, 3)...)
		if w.segmentCount() > 3 {
			require.NoError(t, w.TruncateBelow(want[len(want)-20]))
		}
		got := replayed(t, w, 0)
		require.Equal(t, want[len(want)-len(got):], got)
		require.GreaterOrEqual(t, len(got), min(len(want), 20))
	}
	require.LessOrEqual(t, made.Load(), int64(opt.SpareSegments*recycleFactor+4), "files are used again, not made")
	require.EqualValues(t, int64(w.segmentCount())*opt.SegmentSizeBytes, w.SizeBytes())
	require.LessOrEqual(t, w.spares.count(), opt.SpareSegments*recycleFactor)

	first := w.FirstLSN()
	require.NoError(t, w.Close())
	w = mustOpen(t, opt)
	require.Equal(t, first, w.FirstLSN())
	require.Equal(t, opt.SegmentSizeBytes*int64(w.segmentCount()+w.spares.count()), w.budget.used)
	require.NoError(t, w.Close())
}

func TestRestartsWithoutTrafficMakeNoSegments(t *testing.T) {
	opt := smallOptions(t.TempDir())
	opt.SpareSegments = -1
	w := mustOpen(t, opt)
	write(t, w, 1, 1)
	require.NoError(t, w.Close())
	for range 3 {
		w = mustOpen(t, opt)
		require.Equal(t, 1, w.segmentCount())
		require.NoError(t, w.Close())
	}
	for n := range 5 {
		w = mustOpen(t, opt)
		write(t, w, 1, 1)
		require.Equal(t, 2+n, w.segmentCount())
		require.Less(t, w.SizeBytes(), opt.SegmentSizeBytes+int64(n+1)*20000, "segments that were not filled are cut")
		require.Equal(t, w.SizeBytes(), w.budget.used)
		require.NoError(t, w.Close())
	}
}

func TestReplayBesideAppends(t *testing.T) {
	opt := smallOptions(t.TempDir())
	w := mustOpen(t, opt)
	want := write(t, w, 20, 3)
	ctx, cancel := context.WithCancel(context.Background())
	var readers errgroup.Group
	for range 3 {
		readers.Go(func() error {
			for ctx.Err() == nil {
				durable, last := w.DurableLSN(), LSN(0)
				err := w.Replay(context.Background(), 0, func(f Frame) error {
					if !isEntry(f) || (last > 0 && f.First != last+1) {
						return fmt.Errorf("wrong frame at LSN %d", f.First)
					}
					last = f.Last()
					return nil
				})
				if err != nil {
					return err
				}
				if last < durable {
					return fmt.Errorf("replay ended at LSN %d, %d was durable before", last, durable)
				}
			}
			return nil
		})
	}
	for range 150 {
		want = append(want, write(t, w, 1, 2)...)
		require.NoError(t, w.TruncateBelow(want[len(want)-40]))
	}
	cancel()
	require.NoError(t, readers.Wait())
	require.NoError(t, w.Close())
}

func TestSegmentsThatAreReadAreKept(t *testing.T) {
	w := mustOpen(t, smallOptions(t.TempDir()))
	want := write(t, w, 60, 3)
	segments := w.segmentCount()
	require.Greater(t, segments, 1)
	seen := 0
	require.NoError(t, w.Replay(context.Background(), 0, func(Frame) error {
		seen++
		return w.TruncateBelow(w.NextLSN())
	}))
	require.Len(t, want, seen)
	require.Equal(t, segments, w.segmentCount())
	require.NoError(t, w.TruncateBelow(w.NextLSN()))
	require.Equal(t, 1, w.segmentCount())
	require.NoError(t, w.Close())
}

func TestReplayStops(t *testing.T) {
	w := mustOpen(t, smallOptions(t.TempDir()))
	write(t, w, 5, 2)
	stop := errors.New("stop")
	require.ErrorIs(t, w.Replay(context.Background(), 0, func(Frame) error { return stop }), stop)
	ctx, cancel := context.WithCancel(context.Background())
	seen := 0
	require.ErrorIs(t, w.Replay(ctx, 0, func(Frame) error {
		seen++
		cancel()
		return nil
	}), context.Canceled)
	require.Equal(t, 1, seen)
	require.NoError(t, w.Close())
	_, err := Open(ctx, smallOptions(w.opt.Dir))
	require.ErrorIs(t, err, context.Canceled)
}

func TestMarkDurableProves(t *testing.T) {
	for _, marked := range []bool{false, true} {
		fsys := crashfs.New()
		w := mustOpen(t, memoryOptions(fsys))
		write(t, w, 2, 1)
		at := w.newest().endBytes - 4096
		if marked {
			require.NoError(t, w.MarkDurable())
			end := w.newest().endBytes
			require.NoError(t, w.MarkDurable(), "the proof is there already")
			require.Equal(t, end, w.newest().endBytes)
		}
		path := w.newest().path
		w.spares.stop()
		f, err := fsys.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(make([]byte, 512), at)
		require.NoError(t, err)

		w, err = Open(context.Background(), memoryOptions(fsys))
		if !marked {
			require.NoError(t, err)
			require.NoError(t, w.Close())
			continue
		}
		var corruption *CorruptionError
		require.ErrorAs(t, err, &corruption)
		require.Equal(t, at, corruption.OffsetBytes)
		require.Equal(t, filepath.Base(path), corruption.Segment)
	}
}

func TestMarkDurableProvesWhatWasRecovered(t *testing.T) {
	fsys := crashfs.New()
	w := mustOpen(t, memoryOptions(fsys))
	want := write(t, w, 2, 1)
	path, at := w.newest().path, w.newest().endBytes-4096
	w.spares.stop() // and no more: a crash

	w = mustOpen(t, memoryOptions(fsys))
	require.NoError(t, w.MarkDurable())
	require.Equal(t, 2, w.segmentCount())
	require.NoError(t, w.MarkDurable())
	require.Equal(t, 2, w.segmentCount())
	require.Equal(t, want, replayed(t, w, 0))
	require.NoError(t, w.Close())

	f, err := fsys.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 512), at)
	require.NoError(t, err)
	_, err = Open(context.Background(), memoryOptions(fsys))
	var corruption *CorruptionError
	require.ErrorAs(t, err, &corruption)
	require.Equal(t, at, corruption.OffsetBytes)
}

func TestDirectIOModes(t *testing.T) {
	for _, mode := range []DirectIO{DirectAuto, DirectOff} {
		opt := smallOptions(t.TempDir())
		opt.DirectIO = mode
		w := mustOpen(t, opt)
		want := write(t, w, 30, 3)
		require.Equal(t, want, replayed(t, w, 0))
		require.NoError(t, w.Close())
		w = mustOpen(t, opt)
		require.Equal(t, want, replayed(t, w, 0))
		require.NoError(t, w.Close())
	}
	fsys := crashfs.New()
	opt := memoryOptions(fsys)
	fsys.Before(failOn(crashfs.Write, 1, syscall.EINVAL))
	opt.DirectIO = DirectOn
	_, err := Open(context.Background(), opt)
	require.ErrorContains(t, err, "refuses direct I/O")
	fsys.Before(failOn(crashfs.Write, 1, syscall.EINVAL))
	opt.DirectIO = DirectAuto
	w := mustOpen(t, opt)
	require.Zero(t, w.direct)
	require.NoError(t, w.Close())
}

func TestObserverAndMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	opt := smallOptions(t.TempDir())
	opt.Registerer = reg
	var groups []GroupStats
	opt.OnGroup = func(s GroupStats) { groups = append(groups, s) }
	w := mustOpen(t, opt)
	write(t, w, 100, 2)
	require.Len(t, groups, 100)
	var records uint64
	rolls := 0
	for _, g := range groups {
		require.Equal(t, 2, g.Frames)
		require.Zero(t, g.Bytes%4096)
		require.Positive(t, g.Write)
		require.Positive(t, g.Datasync)
		if g.Roll > 0 {
			rolls++
		}
		records += g.Records
	}
	require.Equal(t, w.DurableLSN(), records)
	require.Equal(t, w.segmentCount()-1, rolls)

	values := map[string]float64{}
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		m := f.GetMetric()[0]
		values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	require.EqualValues(t, records, values["ingestor_wal_records_total"])
	require.EqualValues(t, 100, values["ingestor_wal_groups_total"])
	require.EqualValues(t, w.SizeBytes(), values["ingestor_wal_size_bytes"])
	require.EqualValues(t, w.segmentCount(), values["ingestor_wal_segments"])
	require.GreaterOrEqual(t, values["ingestor_wal_fsync_total"], 100.0)
	require.Contains(t, values, "ingestor_wal_spare_segments")
	require.Zero(t, values["ingestor_wal_poisoned"])
	require.NoError(t, w.Close())

	w = mustOpen(t, opt) // the same registerer takes the metrics of the next one
	require.NoError(t, w.Close())
}

func TestOptionsAreChecked(t *testing.T) {
	for name, opt := range map[string]Options{
		"Dir":              {},
		"MaxGroupBytes":    {Dir: "x", MaxGroupBytes: 5000},
		"SegmentSizeBytes": {Dir: "x", SegmentSizeBytes: 1 << 20},
		"MaxSizeBytes":     {Dir: "x", MaxSizeBytes: 1 << 20},
	} {
		_, err := Open(context.Background(), opt)
		require.ErrorContains(t, err, name)
	}
}

func TestAppendAndSyncAllocateNothing(t *testing.T) {
	opt := smallOptions(t.TempDir())
	opt.SegmentSizeBytes = 8 << 20
	w := mustOpen(t, opt)
	e := entryFor(1)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if _, err := w.Append(e); err != nil {
			panic(err)
		}
		if err := w.Sync(); err != nil {
			panic(err)
		}
	}))
	require.NoError(t, w.Close())
}
