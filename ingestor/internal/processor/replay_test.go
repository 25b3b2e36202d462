package processor

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// logOf returns a log that holds batches of 10 records with the sequences from 1 to n.
func logOf(t *testing.T, n uint64) *wal.WAL {
	log, err := wal.Open(context.Background(), wal.Options{
		Dir: "wal", FS: crashfs.New(), SegmentSizeBytes: 64 << 10, MaxGroupBytes: 32 << 10, DirectIO: wal.DirectOff,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	for sequence := range n {
		envelope := batch.AppendEnvelope(nil, "acme", 1)
		raw := encode(batchID{1, sequence + 1}, 1, 10)
		_, err := log.Append(wal.Entry{Records: 10, Parts: [2][]byte{envelope, raw}})
		require.NoError(t, err)
		require.NoError(t, log.Sync())
	}
	return log
}

func TestReplayedPiecesAreBounded(t *testing.T) {
	log := logOf(t, 20)
	read := func(budgetBytes int64, maxRecords, first, last uint64) (uint64, uint64) {
		t.Helper()
		pool := slab.New(budgetBytes, nil)
		r := replayer{log: log, pool: pool, maxRecords: maxRecords}
		g, err := r.read(context.Background(), first, last)
		require.NoError(t, err)
		from, to := g.First, g.Last
		require.LessOrEqual(t, pool.UsedBytes(), budgetBytes)
		g.Release()
		require.Zero(t, pool.UsedBytes())
		return from, to
	}
	cases := []struct {
		name                         string
		budgetBytes                  int64
		maxRecords, first, last, end uint64
	}{
		{"whole log", 1 << 20, 1000, 1, 200, 200},
		{"not past what is sealed", 1 << 20, 1000, 1, 150, 150},
		{"from a checkpoint", 1 << 20, 1000, 101, 150, 150},
		{"records", 1 << 20, 25, 1, 200, 30},
		{"bytes", 4 << 10, 1000, 1, 200, 50}, // five buffers of 768 bytes
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			from, to := read(c.budgetBytes, c.maxRecords, c.first, c.last)
			require.Equal(t, c.first, from)
			require.Equal(t, c.end, to)
		})
	}
}

// logWithGap is logOf(3) that was opened again with the positions from 31 to 50 left out, as after a repair, and has one batch more.
func logWithGap(t *testing.T) *wal.WAL {
	options := wal.Options{
		Dir: "wal", FS: crashfs.New(), SegmentSizeBytes: 64 << 10, MaxGroupBytes: 32 << 10, DirectIO: wal.DirectOff,
	}
	entry := wal.Entry{Records: 10, Parts: [2][]byte{batch.AppendEnvelope(nil, "acme", 1), encode(batchID{1, 1}, 1, 10)}}
	log, err := wal.Open(context.Background(), options)
	require.NoError(t, err)
	for range 3 {
		_, err := log.Append(entry)
		require.NoError(t, err)
	}
	require.NoError(t, log.Sync())
	require.NoError(t, log.Close())
	options.FirstLSN = 51
	log, err = wal.Open(context.Background(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	return log
}

func TestAGapThatTheLogDeclaresIsAPieceOfItsOwn(t *testing.T) {
	log := logWithGap(t)
	r := replayer{log: log, pool: slab.New(1<<20, nil), maxRecords: 1000}
	read := func(first, last uint64) (from, to uint64, gap bool) {
		t.Helper()
		g, err := r.read(context.Background(), first, last)
		require.NoError(t, err)
		defer g.Release()
		return g.First, g.Last, g.IsGap()
	}
	check := func(first, last, wantLast uint64, wantGap bool) {
		t.Helper()
		from, to, gap := read(first, last)
		require.Equal(t, first, from)
		require.Equal(t, wantLast, to)
		require.Equal(t, wantGap, gap)
	}
	check(1, 50, 30, false)
	check(31, 50, 50, true) // nothing follows yet
	first, err := log.Append(wal.Entry{Records: 10, Parts: [2][]byte{batch.AppendEnvelope(nil, "acme", 1), encode(batchID{1, 2}, 1, 10)}})
	require.NoError(t, err)
	require.EqualValues(t, 51, first)
	require.NoError(t, log.Sync())
	check(1, 60, 30, false)
	check(31, 60, 50, true)
	check(31, 40, 40, true)
	check(51, 60, 60, false)
	require.Zero(t, r.pool.UsedBytes())
}

func TestReplayRefusesWhatItCannotRead(t *testing.T) {
	log := logOf(t, 3)
	r := replayer{log: log, pool: slab.New(1<<20, nil), maxRecords: 1000}
	_, err := r.read(context.Background(), 5, 30)
	require.ErrorContains(t, err, "log frame at LSN 1 where 5 is due")
	require.True(t, isFatal(err))
	_, err = r.read(context.Background(), 31, 40)
	require.ErrorContains(t, err, "no records")
	require.True(t, isFatal(err))
	require.Zero(t, r.pool.UsedBytes())
}

// The log may hold batches from a time when larger ones were taken.
func TestABatchLargerThanTheReplayMemoryIsReadAlone(t *testing.T) {
	tiny := replayer{log: logOf(t, 3), pool: slab.New(512, nil), maxRecords: 1000}
	g, err := tiny.read(context.Background(), 11, 30)
	require.NoError(t, err)
	require.EqualValues(t, 11, g.First)
	require.EqualValues(t, 20, g.Last)
	g.Release()
	require.Zero(t, tiny.pool.UsedBytes())
}
