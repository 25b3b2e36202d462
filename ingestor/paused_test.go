package ingestor_test

import (
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// sentEvents holds the event IDs that were acknowledged, by LSN.
type sentEvents map[int64][16]byte

// write sends a batch and notes its events. The error is that of a batch that was refused.
func (s sentEvents) write(r *running, endpoint string, records, payloadBytes int) error {
	request := batchOf(endpoint, storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, records)
	for _, record := range request.GetRecords() {
		record.Payload = make([]byte, payloadBytes)
	}
	response, err := r.client().WriteBatch(r.ctx(), request)
	if err != nil {
		return err
	}
	for i, record := range request.GetRecords() {
		s[int64(response.GetAck().GetFirstLsn())+int64(i)] = [16]byte(record.GetEventId())
	}
	return nil
}

// storedEvents reads the event IDs in the files of the manifest, by LSN. Each LSN must be there once.
func storedEvents(t *testing.T, config ingestor.Config) sentEvents {
	t.Helper()
	state, err := manifest.Read(vfs.OS, filepath.Join(config.DataDir, "manifest"))
	require.NoError(t, err)
	events := sentEvents{}
	for path := range state.Files {
		rows, err := parquet.ReadFile[struct {
			EventID [16]byte `parquet:"event_id,uuid"`
			LSN     int64    `parquet:"lsn"`
		}](filepath.Join(config.DataDir, "parquet", path))
		require.NoError(t, err)
		for _, row := range rows {
			require.NotContains(t, events, row.LSN, "stored twice")
			events[row.LSN] = row.EventID
		}
	}
	return events
}

func TestAPausedServerKeepsEverythingInTheLog(t *testing.T) {
	config, secrets := testConfig(t)
	sent := sentEvents{}
	config.Processor.Paused = true
	for range 2 {
		r := start(t, config, secrets)
		for _, endpoint := range []string{"orders", "clicks", "orders"} {
			require.NoError(t, sent.write(r, endpoint, 10, 20))
		}
		r.drain()
		require.Empty(t, storedEvents(t, config))
		require.Empty(t, parquetFiles(t, config))
	}
	config.Processor.Paused = false
	r := start(t, config, secrets)
	require.NoError(t, sent.write(r, "orders", 10, 20))
	r.drain()
	require.Len(t, sent, 70)
	require.Equal(t, sent, storedEvents(t, config))
}

func TestAPausedServerRefusesToCommit(t *testing.T) {
	config, secrets := testConfig(t)
	config.Processor.Paused = true
	r := start(t, config, secrets)
	committed := batchOf("orders", storagepb.AckLevel_ACK_LEVEL_COMMITTED, 1)
	_, err := r.client().WriteBatch(r.ctx(), committed)
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.ErrorContains(t, err, "processor.paused")

	stream, err := r.client().WriteStream(r.ctx())
	require.NoError(t, err)
	require.NoError(t, stream.Send(committed))
	response, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_UNSUPPORTED, response.GetError().GetCode())
	require.Equal(t, "ack_level", response.GetError().GetField())
	require.NoError(t, stream.Send(batchOf("orders", storagepb.AckLevel_ACK_LEVEL_BUFFERED, 1)))
	require.NoError(t, stream.Send(batchOf("orders", storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, 1)))
	for range 2 {
		response, err = stream.Recv()
		require.NoError(t, err)
		require.EqualValues(t, 1, response.GetAck().GetRecordCount(), "the stream goes on")
	}
	require.NoError(t, stream.CloseSend())
	r.drain()
}

func TestTheLogsLimitBoundsAPause(t *testing.T) {
	config, secrets := testConfig(t)
	config.Processor.Paused = true
	config.WAL.SpareSegments = 0
	config.WAL.MaxBytes = 2 * config.WAL.SegmentBytes
	r := start(t, config, secrets)
	sent := sentEvents{}
	var err error
	for err == nil {
		err = sent.write(r, "orders", 4, 100<<10)
	}
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_NO_SPACE, status.Convert(err).Details()[0].(*storagepb.BatchError).GetCode())
	require.Greater(t, len(sent)*(100<<10), int(config.WAL.SegmentBytes), "the log is used up to its limit")
	r.drain()
	require.Empty(t, storedEvents(t, config))

	config.Processor.Paused = false
	start(t, config, secrets).drain()
	require.Equal(t, sent, storedEvents(t, config))
}
