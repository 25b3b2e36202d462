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

// A start finds all that the sinks lack, were it a single record.
func TestASingleRecordIsABacklog(t *testing.T) {
	r := newFieldRig(t)
	r.write(1, 10)
	require.NoError(t, r.flush())
	r.write(2, 1)
	fsys := r.fs
	require.NoError(t, r.abandon())

	again, err := openPipeline(fsys, r.database)
	require.NoError(t, err)
	require.NoError(t, again.flush())
	require.Equal(t, uint64(11), again.processor.LowWatermark())
	require.NoError(t, r.test.judge(again, r.h, r.h.acked))
	require.NoError(t, again.abandon())
}

// A piece that is read back ends before the batch that has no room; a smaller one behind it must not take its place.
func TestAPieceEndsBeforeTheBatchThatHasNoRoom(t *testing.T) {
	log, err := wal.Open(context.Background(), wal.Options{
		Dir: "wal", FS: crashfs.New(), SegmentSizeBytes: 64 << 10, MaxGroupBytes: 32 << 10, DirectIO: wal.DirectOff,
	})
	require.NoError(t, err)
	for i, records := range []uint32{10, 60, 1, 1} {
		raw := encode(batchID{1, uint64(i + 1)}, 1, int(records))
		_, err := log.Append(wal.Entry{Records: records, Parts: [2][]byte{batch.AppendEnvelope(nil, "acme", 1), raw}})
		require.NoError(t, err)
	}
	require.NoError(t, log.Sync())

	// There is room for the first batch and the small ones, or for the second.
	r := replayer{log: log, pool: slab.New(5632, nil), maxRecords: 1000}
	for _, want := range [][2]uint64{{1, 10}, {11, 70}} {
		last := uint64(72)
		if want[0] > 1 {
			last = want[1]
		}
		g, err := r.read(context.Background(), want[0], last)
		require.NoError(t, err)
		require.Equal(t, want, [2]uint64{g.First, g.Last})
		require.Equal(t, want[1]-want[0]+1, g.Records())
		g.Release()
	}
	require.NoError(t, log.Close())
}
