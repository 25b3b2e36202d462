package ingestion

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	ingest "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSubmitter stands for the committer. What it takes it either completes at once or hands to held, for the test to
// complete.
type fakeSubmitter struct {
	// full is what Admit returns for the first batch.
	full   atomic.Pointer[refusal.Error]
	refuse func(*ingest.Submission) error
	held   chan *ingest.Submission
	// discard keeps no copies, for benchmarks.
	discard bool
	// admitted counts what was admitted and neither submitted nor withdrawn.
	admitted atomic.Int64

	mu      sync.Mutex
	nextLSN uint64
	raws    [][]byte // copies of what was accepted
}

func (f *fakeSubmitter) Admit(context.Context, *ingest.Submission, int) error {
	if full := f.full.Swap(nil); full != nil {
		return full
	}
	f.admitted.Add(1)
	return nil
}

func (f *fakeSubmitter) Withdraw(*ingest.Submission) { f.admitted.Add(-1) }

func (f *fakeSubmitter) Submit(s *ingest.Submission) error {
	f.admitted.Add(-1)
	if f.refuse != nil {
		if err := f.refuse(s); err != nil {
			return err
		}
	}
	if !f.discard {
		f.mu.Lock()
		f.raws = append(f.raws, append([]byte(nil), s.Raw...))
		f.mu.Unlock()
	}
	if f.held != nil {
		f.held <- s
		return nil
	}
	f.complete(s)
	return nil
}

// complete acknowledges s.
func (f *fakeSubmitter) complete(s *ingest.Submission) {
	f.mu.Lock()
	s.FirstLSN = f.nextLSN + 1
	f.nextLSN += uint64(s.Records)
	s.LastLSN = f.nextLSN
	f.mu.Unlock()
	s.AckedRecords = s.Records
	s.Buf.Release()
	s.Buf, s.Raw, s.Endpoint = nil, nil, nil
	s.Done(s)
}

func (f *fakeSubmitter) accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.raws)
}

// server is an API behind a real gRPC server on a loopback socket, with a client.
type server struct {
	api       *API
	grpc      *grpc.Server
	submitter *fakeSubmitter
	buffers   *slab.Pool
	registry  *prometheus.Registry
	stages    *telemetry.Stages
	address   string
	conn      *grpc.ClientConn
	client    storagepb.IngestionServiceClient
}

// testConfig has small limits, so that tests reach them with little.
func testConfig() Config {
	config := DefaultConfig()
	config.MaxBatchBytes, config.MaxBatchRecords, config.MaxRecordBytes = 64<<10, 100, 4<<10
	config.Window = 8
	return config
}

const testBudgetBytes = 1 << 20

func startServer(t testing.TB, config Config, submitter *fakeSubmitter) *server {
	t.Helper()
	s := &server{
		submitter: submitter, buffers: slab.New(testBudgetBytes, nil),
		registry: prometheus.NewRegistry(), stages: telemetry.NewStages(),
	}
	var err error
	s.api, err = New(config, Dependencies{
		Submitter: submitter, Buffers: s.buffers, Observer: s.stages, Registerer: s.registry, Now: time.Now,
	})
	require.NoError(t, err)
	options := append(s.api.ServerOptions(), grpc.UnaryInterceptor(authenticateUnary), grpc.StreamInterceptor(authenticateStream))
	s.grpc = grpc.NewServer(options...)
	s.api.Register(s.grpc)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = listener.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.grpc.Serve(listener) })
	s.conn, err = grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	s.client = storagepb.NewIngestionServiceClient(s.conn)
	t.Cleanup(func() {
		require.NoError(t, s.conn.Close())
		s.grpc.Stop()
		serving.Wait()
		require.NoError(t, s.api.Close())
		require.Zero(t, s.buffers.UsedBytes(), "buffers that were not given back")
		require.Zero(t, submitter.admitted.Load(), "reservations that were not given back")
	})
	return s
}

// anonymous is metadata that makes the interceptors below forget the credential.
const anonymous = "x-anonymous"

// withPrincipal does what the auth package's interceptors do, for one fixed credential.
func withPrincipal(ctx context.Context) context.Context {
	if len(metadata.ValueFromIncomingContext(ctx, anonymous)) > 0 {
		return ctx
	}
	principal, err := auth.NewPrincipal("acme", "test", []string{"orders", "sensor-*"})
	if err != nil {
		panic(err)
	}
	return auth.NewContext(ctx, principal)
}

func authenticateUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(withPrincipal(ctx), req)
}

func authenticateStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &streamWithContext{stream, withPrincipal(stream.Context())})
}

type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *streamWithContext) Context() context.Context { return s.ctx }

// deadline bounds every call of these tests, so that a lost answer fails a test rather than hanging it.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// uuid returns an event id that is unique among small i.
func uuid(i int) []byte {
	return binary.BigEndian.AppendUint64([]byte("\x01\x92\x34\x56\x78\x9a\x7b\xcd"), uint64(i))
}

// request returns a valid batch of n rows.
func request(batchID uint64, n int) *storagepb.WriteBatchRequest {
	m := &storagepb.WriteBatchRequest{BatchId: batchID, EndpointId: "orders"}
	for i := range n {
		m.Records = append(m.Records, &storagepb.DataRecord{
			EventId: uuid(i), TimestampUnixNano: time.Now().UnixNano(), Payload: []byte(`{"n":1}`),
		})
	}
	return m
}

// columnsRequest returns a valid batch of n records as columns.
func columnsRequest(batchID uint64, n int) *storagepb.WriteBatchRequest {
	m := &storagepb.WriteBatchRequest{BatchId: batchID, EndpointId: "sensor-1", Columns: &storagepb.RecordColumns{}}
	for i := range n {
		m.Columns.EventIds = append(m.Columns.EventIds, uuid(i)...)
		m.Columns.TimestampsUnixNano = append(m.Columns.TimestampsUnixNano, time.Now().UnixNano())
		m.Columns.Payloads = append(m.Columns.Payloads, "{}"...)
		m.Columns.PayloadLengths = append(m.Columns.PayloadLengths, 2)
	}
	return m
}
