package processor

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// The sinks may be faster than the goroutine that brings the dedupe copy up to date. A checkpoint must not let the log go above which the
// snapshot knows nothing.
func TestACheckpointWaitsForTheDedupeCopy(t *testing.T) {
	r := newFieldRig(t)
	for sequence := uint64(1); sequence <= 3; sequence++ {
		r.write(sequence, 10)
		require.NoError(t, r.service.Seal(t.Context()))
		for _, w := range r.processor.workers {
			worked, err := w.step(t.Context())
			require.NoError(t, err)
			require.True(t, worked)
		}
		require.Less(t, r.processor.table.AppliedLSN(), 10*sequence, "nobody has brought the copy up to date")
		require.NoError(t, r.processor.checkpoint())
		state := r.manifest.State()
		require.Equal(t, 10*sequence, state.LowWatermark)
		require.NotNil(t, state.Dedupe)
		require.Equal(t, 10*sequence, state.Dedupe.LSN)
	}
}

// Batches that are neither in the snapshot nor in the log would be stored again when they are sent again.
func TestARebuildRefusesAGapBelowTheLog(t *testing.T) {
	fsys := crashfs.New()
	stamps := logged(t, fsys, 60)
	log, err := wal.Open(context.Background(), rebuildOptions(fsys))
	require.NoError(t, err)
	require.NoError(t, log.TruncateBelow(400))
	first := log.FirstLSN()
	require.Greater(t, first, uint64(100))
	require.NoError(t, log.Close())

	for lsn, good := range map[uint64]bool{first - 11: false, first - 1: true, 400: true} {
		rebuild, err := NewRebuild(manifestAt(t, stamps, lsn), 100)
		require.NoError(t, err)
		options := rebuildOptions(fsys)
		options.OnFrame = rebuild.Frame
		log, err := wal.Open(context.Background(), options)
		require.NoError(t, err)
		_, err = rebuild.complete(context.Background(), log)
		require.NoError(t, log.Close())
		if good {
			require.NoError(t, err, "snapshot at %d of a log that begins at %d", lsn, first)
		} else {
			require.ErrorContains(t, err, "are lost", "snapshot at %d of a log that begins at %d", lsn, first)
		}
	}
}
