package ingestor_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor"
	"github.com/ingestor-project/ingestor/ingestor/internal/credentials"
	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite{Tests: m}) }

// running is a server in this process, with a client.
type running struct {
	*ingestor.Server
	t      *testing.T
	config ingestor.Config
	key    string
	conn   *grpc.ClientConn
	stop   context.CancelFunc
	ended  chan error
	reload chan os.Signal
}

func testConfig(t *testing.T) (config ingestor.Config, secrets string) {
	t.Helper()
	secrets = filepath.Join(t.TempDir(), "secrets")
	require.NoError(t, credentials.Init(secrets, "acme", ""))
	config = ingestor.DefaultConfig()
	config.DataDir = filepath.Join(t.TempDir(), "a", "b", "data")
	config.Listen = ingestor.ListenConfig{GRPC: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	config.Auth.KeysFile = filepath.Join(secrets, "keys.yaml")
	config.WAL.SegmentBytes, config.WAL.MaxGroupBytes, config.WAL.SpareSegments = 4<<20, 2<<20, 1
	config.Ingest.MaxBatchBytes, config.Ingest.MaxRecordBytes = 1<<20, 1<<20
	config.Memtable.GenerationAge = time.Hour
	return config, secrets
}

func start(t *testing.T, config ingestor.Config, secrets string) *running {
	t.Helper()
	server, err := ingestor.New(t.Context(), config, "test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return run(t, server, config, secrets)
}

// run runs a server and connects a client to it.
func run(t *testing.T, server *ingestor.Server, config ingestor.Config, secrets string) *running {
	t.Helper()
	key, err := credentials.APIKey(secrets)
	require.NoError(t, err)
	conn, err := grpc.NewClient(server.GRPCAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Server: server, t: t, config: config, key: key, conn: conn, stop: stop, ended: make(chan error, 1), reload: make(chan os.Signal)}
	go func() { r.ended <- server.Run(ctx, r.reload) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, conn.Close())
		http.DefaultClient.CloseIdleConnections()
	})
	return r
}

// drain stops the server in order.
func (r *running) drain() {
	r.t.Helper()
	r.stop()
	require.NoError(r.t, <-r.ended)
}

func (r *running) ctx() context.Context {
	return metadata.AppendToOutgoingContext(r.t.Context(), "authorization", "Bearer "+r.key)
}

func (r *running) client() storagepb.IngestionServiceClient {
	return storagepb.NewIngestionServiceClient(r.conn)
}

func batchOf(endpoint string, level storagepb.AckLevel, n int) *storagepb.WriteBatchRequest {
	request := &storagepb.WriteBatchRequest{EndpointId: endpoint, AckLevel: level}
	for i := range n {
		id := uuid.Must(uuid.NewV7())
		request.Records = append(request.Records, &storagepb.DataRecord{
			EventId: id[:], TimestampUnixNano: time.Now().UnixNano(), Payload: fmt.Appendf(nil, `{"n":%d}`, i),
		})
	}
	return request
}

func parquetFiles(t *testing.T, config ingestor.Config) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(config.DataDir, "parquet", "tenant=*", "endpoint=*", "date=*", "hour=*", "*.parquet"))
	require.NoError(t, err)
	return files
}

func TestAckedBatchesAreFlushedByAnOrderlyStopAndPositionsGoOn(t *testing.T) {
	config, secrets := testConfig(t)
	r := start(t, config, secrets)
	response, err := r.client().WriteBatch(r.ctx(), batchOf("orders", storagepb.AckLevel_ACK_LEVEL_UNSPECIFIED, 10))
	require.NoError(t, err)
	require.Equal(t, storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, response.GetAck().GetLevel(), "the default")
	require.EqualValues(t, 1, response.GetAck().GetFirstLsn())
	require.EqualValues(t, 10, response.GetAck().GetLastLsn())
	require.Empty(t, parquetFiles(t, config))
	r.drain()
	require.Len(t, parquetFiles(t, config), 1)

	again := start(t, config, secrets)
	response, err = again.client().WriteBatch(again.ctx(), batchOf("orders", storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, 5))
	require.NoError(t, err)
	require.EqualValues(t, 11, response.GetAck().GetFirstLsn())
	again.drain()
	require.Len(t, parquetFiles(t, config), 2)
}

func TestACommittedAckIsGivenDuringAStop(t *testing.T) {
	config, secrets := testConfig(t)
	r := start(t, config, secrets)
	stream, err := r.client().WriteStream(r.ctx())
	require.NoError(t, err)
	require.NoError(t, stream.Send(batchOf("orders", storagepb.AckLevel_ACK_LEVEL_COMMITTED, 3)))
	require.NoError(t, stream.Send(batchOf("orders", storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, 3)))
	response, err := stream.Recv() // the second one: the first waits for a flush that an hour would bring
	require.NoError(t, err)
	require.EqualValues(t, 4, response.GetAck().GetFirstLsn())
	r.stop()
	response, err = stream.Recv()
	require.NoError(t, err)
	require.Equal(t, storagepb.AckLevel_ACK_LEVEL_COMMITTED, response.GetAck().GetLevel())
	require.EqualValues(t, 1, response.GetAck().GetFirstLsn())
	require.NoError(t, <-r.ended)
}

func TestCredentialsAreAskedForAndReloaded(t *testing.T) {
	config, secrets := testConfig(t)
	r := start(t, config, secrets)
	_, err := r.client().WriteBatch(t.Context(), batchOf("orders", 0, 1))
	require.Equal(t, codes.Unauthenticated, status.Code(err))

	keys, err := os.ReadFile(config.Auth.KeysFile)
	require.NoError(t, err)
	restricted := strings.ReplaceAll(string(keys), `'*'`, "orders")
	restricted = strings.ReplaceAll(restricted, `"*"`, "orders")
	require.NotEqual(t, string(keys), restricted)
	require.NoError(t, os.WriteFile(config.Auth.KeysFile, []byte(restricted), 0o600))
	_, err = r.client().WriteBatch(r.ctx(), batchOf("clicks", 0, 1))
	require.NoError(t, err, "a file counts when it is read, not when it is written")
	r.reload <- os.Interrupt
	r.reload <- os.Interrupt // taken only when the first one has been carried out
	_, err = r.client().WriteBatch(r.ctx(), batchOf("clicks", 0, 1))
	require.Equal(t, codes.PermissionDenied, status.Code(err))

	require.NoError(t, os.WriteFile(config.Auth.KeysFile, []byte("keys: broken"), 0o600))
	r.reload <- os.Interrupt
	r.reload <- os.Interrupt
	_, err = r.client().WriteBatch(r.ctx(), batchOf("orders", 0, 1))
	require.NoError(t, err, "a file that cannot be read leaves the old keys in force")
	r.drain()
}

func TestHealthReadinessAndMetrics(t *testing.T) {
	config, secrets := testConfig(t)
	r := start(t, config, secrets)
	health, err := healthpb.NewHealthClient(r.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err, "health needs no credential")
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, health.GetStatus())
	for _, path := range []string{"/-/healthy", "/-/ready", "/metrics", "/debug/stages"} {
		response, err := http.Get("http://" + r.AdminAddress() + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode, path)
	}
	r.drain()
}

func TestAHealthWatchDoesNotHoldUpAStop(t *testing.T) {
	config, secrets := testConfig(t)
	config.Drain.Timeout = time.Hour
	r := start(t, config, secrets)
	watch, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = watch.Recv()
	require.NoError(t, err)
	r.drain()
}

// A client that reads no answers cannot be waited for.
func TestAClientThatDoesNotLetGoDoesNotCostTheFlush(t *testing.T) {
	config, secrets := testConfig(t)
	config.Drain.Timeout = 2 * time.Second
	r := start(t, config, secrets)
	_, err := r.client().WriteBatch(r.ctx(), batchOf("orders", 0, 10))
	require.NoError(t, err)
	// Half of a request is sent, and the rest never comes: the call stays under way.
	body, pipe := io.Pipe()
	defer pipe.Close()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.GRPCAddress()+"/storage.IngestionService/WriteBatch", body)
	require.NoError(t, err)
	request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Authorization": {"Bearer " + r.key}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if response, err := transport.RoundTrip(request); err == nil {
			_ = response.Body.Close()
		}
	}()
	_, err = pipe.Write([]byte{0, 0, 0, 1, 0})
	require.NoError(t, err)
	r.drain()
	require.NoError(t, pipe.Close())
	<-ended
	require.Len(t, parquetFiles(t, config), 1)
}

func TestARequestToTheAdminPortDoesNotMakeAStopDisorderly(t *testing.T) {
	config, secrets := testConfig(t)
	config.Drain.Timeout = time.Nanosecond
	r := start(t, config, secrets)
	conn, err := net.Dial("tcp", r.AdminAddress())
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprint(conn, "GET /debug/pprof/trace?seconds=60 HTTP/1.1\r\nHost: admin\r\n\r\n")
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1)) // it is under way
	require.NoError(t, err)
	r.drain()
}

func TestLogMetricWithoutADatabaseSaysWhatIsMissing(t *testing.T) {
	config, secrets := testConfig(t)
	r := start(t, config, secrets)
	_, err := metricspb.NewMetricsServiceClient(r.conn).LogMetric(r.ctx(), &metricspb.LogMetricsRequest{
		Service: "billing", Metrics: []*metricspb.Metric{{Name: "up", Value: 1}},
	})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.ErrorContains(t, err, "timescale.dsn")
	r.drain()
}

func TestOneServerADataDirectory(t *testing.T) {
	config, secrets := testConfig(t)
	r := start(t, config, secrets)
	_, err := ingestor.New(t.Context(), config, "test", slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "in use by another process")
	r.drain()
}

func TestDamageInTheLogRefusesTheStart(t *testing.T) {
	config, secrets := testConfig(t)
	// Without a flush the log holds everything.
	config.Drain.Timeout = time.Nanosecond
	r := start(t, config, secrets)
	for range 3 {
		_, err := r.client().WriteBatch(r.ctx(), batchOf("orders", 0, 50))
		require.NoError(t, err)
	}
	r.drain()

	segment := filepath.Join(config.DataDir, "wal", "0000000000000001.wal")
	content, err := os.ReadFile(segment)
	require.NoError(t, err)
	content[4096+200] ^= 1 // in the first group: the two that follow prove that it was synced
	require.NoError(t, os.WriteFile(segment, content, 0o644))
	_, err = ingestor.New(t.Context(), config, "test", slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, ingestor.ErrRefused)
	require.ErrorContains(t, err, "0000000000000001.wal")
}

func TestALogThatDoesNotBelongToTheManifestRefusesTheStart(t *testing.T) {
	config, secrets := testConfig(t)
	r := start(t, config, secrets)
	_, err := r.client().WriteBatch(r.ctx(), batchOf("orders", 0, 1))
	require.NoError(t, err)
	r.drain()
	require.NoError(t, os.RemoveAll(filepath.Join(config.DataDir, "wal")))
	_, err = ingestor.New(t.Context(), config, "test", slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, ingestor.ErrRefused)
}

// A log can lose its end, to a repair for one. Positions that the dedupe snapshot knows must not be given out again, and the sinks must
// get past those that are in no log.
func TestALogThatEndsBelowTheDedupeSnapshotGoesOnAboveIt(t *testing.T) {
	config, secrets := testConfig(t)
	r := start(t, config, secrets)
	_, err := r.client().WriteBatch(r.ctx(), batchOf("orders", 0, 10))
	require.NoError(t, err)
	r.drain()

	m, err := manifest.Open(vfs.OS, filepath.Join(config.DataDir, "manifest"), manifest.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	table := dedupe.New(10)
	table.Advance(100)
	snapshot, err := m.WriteSnapshot(100, table.AppendSnapshot(nil))
	require.NoError(t, err)
	require.NoError(t, m.Commit(manifest.Edit{Dedupe: &snapshot}))
	require.NoError(t, m.Close())

	again := start(t, config, secrets)
	response, err := again.client().WriteBatch(again.ctx(), batchOf("orders", 0, 5))
	require.NoError(t, err)
	require.EqualValues(t, 101, response.GetAck().GetFirstLsn())
	again.drain()
	require.Len(t, parquetFiles(t, config), 2)
}
