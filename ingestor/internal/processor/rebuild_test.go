package processor

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

func rebuildOptions(fsys *crashfs.FS) wal.Options {
	return wal.Options{Dir: "wal", FS: fsys, SegmentSizeBytes: 64 << 10, MaxGroupBytes: 32 << 10, DirectIO: wal.DirectOff}
}

// logged writes a log of batches of 10 records from three producers, and returns the stamps in it.
func logged(t *testing.T, fsys *crashfs.FS, n uint64) (stamps []dedupe.Stamp) {
	t.Helper()
	log, err := wal.Open(context.Background(), rebuildOptions(fsys))
	require.NoError(t, err)
	envelope := batch.AppendEnvelope(nil, "acme", 1)
	for i := range n {
		id := batchID{byte(i % 3), i/3 + 1}
		first, err := log.Append(wal.Entry{Records: 10, Parts: [2][]byte{envelope, encode(id, 1, 10)}})
		require.NoError(t, err)
		require.NoError(t, log.Sync())
		stamps = append(stamps, dedupe.Stamp{
			Tenant: "acme", Producer: dedupe.ProducerID{id.producer}, Epoch: 1, Sequence: id.sequence, FirstLSN: first, Records: 10,
		})
	}
	require.NoError(t, log.Close())
	return stamps
}

// manifestAt returns a manifest whose dedupe snapshot has the first n stamps.
func manifestAt(t *testing.T, stamps []dedupe.Stamp, lsn uint64) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Open(crashfs.New(), "manifest", manifest.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	if lsn == 0 {
		return m
	}
	table := dedupe.New(100)
	for i := range stamps {
		if stamps[i].FirstLSN <= lsn {
			table.Apply(&stamps[i])
		}
	}
	table.Advance(lsn)
	snapshot, err := m.WriteSnapshot(lsn, table.AppendSnapshot(nil))
	require.NoError(t, err)
	require.NoError(t, m.Commit(manifest.Edit{Dedupe: &snapshot, LowWatermark: lsn}))
	return m
}

// The table is the same whether the frames were seen while the log was opened, or are read again, or both, and wherever the snapshot stands.
func TestTheDedupeTableIsRebuiltInOnePass(t *testing.T) {
	fsys := crashfs.New()
	stamps := logged(t, fsys, 200)
	end := stamps[len(stamps)-1].FirstLSN + 9
	want := dedupe.New(100)
	for i := range stamps {
		want.Apply(&stamps[i])
	}
	want.Advance(end)
	for _, lsn := range []uint64{0, 10, 1000, end} {
		m := manifestAt(t, stamps, lsn)
		for _, seen := range []uint64{0, 500, end} {
			rebuild, err := NewRebuild(m, 100)
			require.NoError(t, err)
			options, visited := rebuildOptions(fsys), uint64(0)
			options.OnFrame = func(f wal.Frame) error {
				if f.First > seen {
					return nil
				}
				visited += uint64(f.Records)
				return rebuild.Frame(f)
			}
			log, err := wal.Open(context.Background(), options)
			require.NoError(t, err)
			require.Equal(t, seen, visited)
			counted := &countingLog{Log: log}
			table, err := rebuild.complete(context.Background(), counted)
			require.NoError(t, err)
			require.NoError(t, log.Close())
			require.Equal(t, want.AppendSnapshot(nil), table.AppendSnapshot(nil), "snapshot at %d, seen up to %d", lsn, seen)
			require.Equal(t, max(seen, lsn) < end, counted.replays > 0, "the log is read again only where it was not seen")
		}
	}
}

// countingLog counts the replays.
type countingLog struct {
	Log
	replays int
}

func (c *countingLog) Replay(ctx context.Context, from wal.LSN, fn func(wal.Frame) error) error {
	c.replays++
	return c.Log.Replay(ctx, from, fn)
}

func TestARebuildRefusesWhatDoesNotFit(t *testing.T) {
	fsys := crashfs.New()
	stamps := logged(t, fsys, 20)
	open := func(m *manifest.Manifest) error {
		rebuild, err := NewRebuild(m, 100)
		require.NoError(t, err)
		options := rebuildOptions(fsys)
		options.OnFrame = rebuild.Frame
		log, err := wal.Open(context.Background(), options)
		if err != nil {
			return err
		}
		_, err = rebuild.complete(context.Background(), log)
		require.NoError(t, log.Close())
		return err
	}
	require.NoError(t, open(manifestAt(t, stamps, 200)))
	err := open(manifestAt(t, stamps[:10], 105))
	require.ErrorContains(t, err, "stands within the batch 101-110")
	require.True(t, isFatal(err))
	require.ErrorContains(t, open(manifestAt(t, stamps, 201)), "do not belong together")

	log, err := wal.Open(context.Background(), rebuildOptions(fsys))
	require.NoError(t, err)
	_, err = log.Append(wal.Entry{Records: 10, Parts: [2][]byte{batch.AppendEnvelope(nil, "acme", 1), []byte("no batch")}})
	require.NoError(t, err)
	require.NoError(t, log.Sync())
	require.NoError(t, log.Close())
	err = open(manifestAt(t, stamps, 100))
	require.ErrorContains(t, err, "log frame at LSN 201")
	require.True(t, isFatal(err))
}
