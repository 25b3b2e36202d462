package processor

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// The record right above the checkpoint is the next one that a sink asks for: a segment that holds no other one above it must stay.
func TestTheRecordAboveTheCheckpointStaysInTheLog(t *testing.T) {
	log, err := wal.Open(context.Background(), wal.Options{
		Dir: "wal", FS: crashfs.New(), SegmentSizeBytes: 64 << 10, MaxGroupBytes: 16 << 10, DirectIO: wal.DirectOff,
	})
	require.NoError(t, err)
	first := log.FirstLSN()
	end := uint64(0) // of the first segment
	for size := log.SizeBytes(); end == 0; {
		before := log.DurableLSN()
		_, err := log.Append(wal.Entry{Records: 1, Parts: [2][]byte{make([]byte, 6000)}})
		require.NoError(t, err)
		require.NoError(t, log.Sync())
		if log.SizeBytes() > size {
			end = before
		}
	}
	for _, low := range []uint64{end - 2, end - 1} {
		p := &Processor{deps: Dependencies{Log: log}, low: low, checkpointed: low}
		require.NoError(t, p.checkpoint())
		require.Equal(t, first, log.FirstLSN(), "checkpoint at LSN %d of a segment that ends at %d", low, end)
		next := uint64(0)
		require.NoError(t, log.Replay(context.Background(), low+1, func(f wal.Frame) error {
			if next == 0 {
				next = f.First
			}
			return nil
		}))
		require.Equal(t, low+1, next)
	}
	p := &Processor{deps: Dependencies{Log: log}, low: end, checkpointed: end}
	require.NoError(t, p.checkpoint())
	require.Equal(t, end+1, log.FirstLSN())
	require.NoError(t, log.Close())
}
