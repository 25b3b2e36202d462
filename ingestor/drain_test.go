package ingestor_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor"
	"github.com/ingestor-project/ingestor/ingestor/internal/config"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// withDatabase returns a configuration with a database of the test's own, and a connection to it.
func withDatabase(t *testing.T) (cfg ingestor.Config, secrets string, conn *pgx.Conn) {
	t.Helper()
	dsn := pgtest.Database(t)
	cfg, secrets = testConfig(t)
	cfg.Timescale.DSN = config.Secret(dsn)
	cfg.Memtable.GenerationAge = time.Millisecond
	cfg.Metrics.FlushInterval = time.Hour
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return cfg, secrets, conn
}

func (r *running) logMetric(at time.Time) error {
	_, err := metricspb.NewMetricsServiceClient(r.conn).LogMetric(r.ctx(), &metricspb.LogMetricsRequest{
		Service: "billing", Metrics: []*metricspb.Metric{{Name: "up", Value: 1, TimestampUnixNano: at.UnixNano()}},
	})
	return err
}

// Buffered metrics are in no log. A client that waits for a sink until the end of the drain must not cost them their time.
func TestBufferedMetricsAreWrittenWhileASinkStandsStill(t *testing.T) {
	cfg, secrets, conn := withDatabase(t)
	cfg.Drain.Timeout = 2 * time.Second
	r := start(t, cfg, secrets)
	_, err := r.client().WriteBatch(r.ctx(), batchOf("orders", storagepb.AckLevel_ACK_LEVEL_COMMITTED, 1))
	require.NoError(t, err)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE ingestor.records")
	require.NoError(t, err)
	stream, err := r.client().WriteStream(r.ctx())
	require.NoError(t, err)
	require.NoError(t, stream.Send(batchOf("orders", storagepb.AckLevel_ACK_LEVEL_COMMITTED, 1)))
	require.NoError(t, stream.Send(batchOf("orders", storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, 1)))
	_, err = stream.Recv() // both are in the log
	require.NoError(t, err)
	require.NoError(t, r.logMetric(time.Now()))
	r.drain()
	require.NoError(t, tx.Rollback(t.Context()))
	stored := 0
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM ingestor.metrics").Scan(&stored))
	require.Equal(t, 1, stored)
}

func TestMaxFutureHoldsForMetrics(t *testing.T) {
	cfg, secrets, _ := withDatabase(t)
	cfg.Ingest.MaxFuture = 3 * time.Hour
	r := start(t, cfg, secrets)
	require.NoError(t, r.logMetric(time.Now().Add(2*time.Hour)))
	require.Equal(t, codes.InvalidArgument, status.Code(r.logMetric(time.Now().Add(4*time.Hour))))
	r.drain()
}

func TestADatabaseThatIsAddedLateStartsOnlyWhenTold(t *testing.T) {
	cfg, secrets, conn := withDatabase(t)
	cfg.WAL.SegmentBytes, cfg.WAL.MaxGroupBytes = 1<<20, 512<<10
	cfg.Ingest.MaxBatchBytes, cfg.Ingest.MaxRecordBytes = 256<<10, 256<<10
	alone := cfg
	alone.Timescale.DSN = ""
	r := start(t, alone, secrets)
	for range 20 {
		batch := batchOf("orders", storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, 1)
		batch.Records[0].Payload = make([]byte, 200<<10)
		_, err := r.client().WriteBatch(r.ctx(), batch)
		require.NoError(t, err)
	}
	r.drain()

	_, err := ingestor.New(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, ingestor.ErrSink)
	require.ErrorContains(t, err, "--timescale.start=now")

	cfg.Timescale.Start = "now"
	r = start(t, cfg, secrets)
	_, err = r.client().WriteBatch(r.ctx(), batchOf("orders", storagepb.AckLevel_ACK_LEVEL_COMMITTED, 1))
	require.NoError(t, err)
	r.drain()
	var first, gapEnd, records int64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT first_lsn, last_lsn FROM ingestor.gaps").Scan(&first, &gapEnd))
	require.EqualValues(t, 1, first)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM ingestor.records").Scan(&records))
	require.Equal(t, 21-gapEnd, records, "all that the log had, and the new one")

	cfg.Timescale.Start = "refuse"
	start(t, cfg, secrets).drain()
}
