package processor

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// ingestPaused starts a paused server, gives it far more than its memory holds, and returns it when the memory is free again.
func ingestPaused(t *testing.T, fsys *crashfs.FS, sink *fakeSink, first, last uint64) *world {
	t.Helper()
	set := testSettings()
	set.processor.Paused = true
	set.memory = 128 << 10
	w := mustOpen(t, fsys, set, sink)
	w.ingest(t, first, last)
	require.NoError(t, w.service.Seal(context.Background()))
	require.Eventually(t, func() bool { return w.memory.UsedBytes() == 0 }, 20*time.Second, time.Millisecond, "generations leave memory")
	return w
}

func TestAPausedProcessorFlushesNothingUntilALaterLife(t *testing.T) {
	const batches = 500
	for name, stop := range map[string]func(*testing.T, *world) *crashfs.FS{
		"orderly stop": func(t *testing.T, w *world) *crashfs.FS {
			require.NoError(t, w.service.Drain(context.Background()))
			require.ErrorIs(t, w.processor.Drain(context.Background()), ErrPaused)
			require.NoError(t, w.close())
			return w.fs
		},
		"power cut": func(t *testing.T, w *world) *crashfs.FS {
			after := w.fs.Crash(rand.New(rand.NewPCG(1, 0)))
			require.NoError(t, w.close())
			return after
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys, sink := crashfs.New(), newSink("sink")
			for life := range uint64(2) { // a pause may last over several lives
				w := ingestPaused(t, fsys, sink, life*batches+1, (life+1)*batches)
				h := w.processor.Health()[0]
				require.Zero(t, h.FlushedLSN)
				require.Equal(t, w.log.DurableLSN(), h.PendingRecords)
				require.EqualValues(t, (life+1)*batches*10, h.PendingRecords)
				require.Zero(t, w.processor.LowWatermark())
				require.EqualValues(t, 1, w.log.FirstLSN(), "the log is not cut")
				require.True(t, w.commit(t, encode(batchID{1, (life + 1) * batches}, 1, 10), ingestion.WALSynced).Duplicate)
				fsys = stop(t, w)
				require.Empty(t, sink.database.batches)
			}
			w := mustOpen(t, fsys, testSettings(), sink)
			require.Zero(t, w.manifest.State().LowWatermark)
			require.True(t, w.commit(t, encode(batchID{1, 2 * batches}, 1, 10), ingestion.WALSynced).Duplicate)
			w.drain(t)
			requireSequences(t, sink, 2*batches)
		})
	}
}

// What was flushed before the pause stays as it is.
func TestAPauseBetweenTwoLivesThatFlush(t *testing.T) {
	fsys, sink := crashfs.New(), newSink("sink")
	w := mustOpen(t, fsys, testSettings(), sink)
	w.ingest(t, 1, 100)
	w.drain(t)
	w = ingestPaused(t, fsys, sink, 101, 300)
	require.EqualValues(t, 1000, w.processor.LowWatermark())
	require.NoError(t, w.processor.checkpoint())
	require.NoError(t, w.close())
	requireSequences(t, sink, 100)
	w = mustOpen(t, fsys, testSettings(), sink)
	require.EqualValues(t, 1000, w.manifest.State().LowWatermark)
	w.drain(t)
	requireSequences(t, sink, 300)
}
