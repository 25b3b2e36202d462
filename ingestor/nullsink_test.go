package ingestor_test

import (
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func startNullSink(t *testing.T, options ingestor.NullSinkOptions) *running {
	t.Helper()
	config, secrets := testConfig(t)
	server, err := ingestor.NewNullSink(t.Context(), config, options, "test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return run(t, server, config, secrets)
}

// requireBuffered checks an ack for the records from first to last.
func requireBuffered(t *testing.T, ack *storagepb.Ack, first, last uint64) {
	t.Helper()
	require.Equal(t, storagepb.AckLevel_ACK_LEVEL_BUFFERED, ack.GetLevel())
	require.Equal(t, first, ack.GetFirstLsn())
	require.Equal(t, last, ack.GetLastLsn())
	require.EqualValues(t, last-first+1, ack.GetRecordCount())
	require.False(t, ack.GetDuplicate())
}

func TestANullSinkAcksAsBufferedAndStoresNothing(t *testing.T) {
	r := startNullSink(t, ingestor.NullSinkOptions{})
	next := uint64(1)
	for _, level := range []storagepb.AckLevel{0, storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, storagepb.AckLevel_ACK_LEVEL_COMMITTED} {
		response, err := r.client().WriteBatch(r.ctx(), batchOf("orders", level, 10))
		require.NoError(t, err)
		requireBuffered(t, response.GetAck(), next, next+9)
		next += 10
	}
	stream, err := r.client().WriteStream(r.ctx())
	require.NoError(t, err)
	for id := range uint64(200) { // more than its window
		batch := batchOf("orders", storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, 3)
		batch.BatchId = id + 1
		require.NoError(t, stream.Send(batch))
		response, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, id+1, response.GetBatchId())
		requireBuffered(t, response.GetAck(), next, next+2)
		next += 3
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	for _, path := range []string{"/-/healthy", "/-/ready", "/metrics", "/debug/stages"} {
		response, err := http.Get("http://" + r.AdminAddress() + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode, path)
	}
	r.drain()
	require.NoDirExists(t, r.config.DataDir)
	require.NoDirExists(t, filepath.Dir(r.config.DataDir))
}

func TestANullSinkRefusesWhatServeRefuses(t *testing.T) {
	r := startNullSink(t, ingestor.NullSinkOptions{})
	bad := batchOf("orders", 0, 2)
	bad.Records[1].EventId = nil
	_, err := r.client().WriteBatch(r.ctx(), bad)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = metricspb.NewMetricsServiceClient(r.conn).LogMetric(r.ctx(), &metricspb.LogMetricsRequest{
		Service: "billing", Metrics: []*metricspb.Metric{{Name: "up", Value: 1}},
	})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	response, err := r.client().WriteBatch(r.ctx(), batchOf("orders", 0, 1))
	require.NoError(t, err)
	requireBuffered(t, response.GetAck(), 1, 1)
	r.drain()
}

func TestAnEmptyHandlerLooksAtNoRequest(t *testing.T) {
	r := startNullSink(t, ingestor.NullSinkOptions{Empty: true, AckRecords: 7})
	bad := &storagepb.WriteBatchRequest{BatchId: 5, AckLevel: storagepb.AckLevel_ACK_LEVEL_COMMITTED}
	response, err := r.client().WriteBatch(r.ctx(), bad)
	require.NoError(t, err)
	requireBuffered(t, response.GetAck(), 1, 7)

	stream, err := r.client().WriteStream(r.ctx())
	require.NoError(t, err)
	for _, id := range []uint64{0, 5, 1<<64 - 1} {
		batch := batchOf("orders", 0, 3)
		batch.BatchId = id
		require.NoError(t, stream.Send(batch))
		response, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, id, response.GetBatchId())
		requireBuffered(t, response.GetAck(), 1, 7)
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	r.drain()
	require.NoDirExists(t, r.config.DataDir)
}

func TestANullSinkAsksForCredentials(t *testing.T) {
	for _, options := range []ingestor.NullSinkOptions{{}, {Empty: true, AckRecords: 1}} {
		r := startNullSink(t, options)
		r.key += "x"
		_, err := r.client().WriteBatch(r.ctx(), batchOf("orders", 0, 1))
		require.Equal(t, codes.Unauthenticated, status.Code(err))
		stream, err := r.client().WriteStream(r.ctx())
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.Unauthenticated, status.Code(err))
		r.drain()
	}
}
