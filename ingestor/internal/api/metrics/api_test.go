package metrics

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/metrics"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a metrics.Writer that keeps what it gets, and stalls while it is held.
type memory struct {
	hold sync.Mutex
	mu   sync.Mutex
	got  []metrics.Metric
}

func (m *memory) Write(_ context.Context, batch []metrics.Metric) (timescale.Written, error) {
	m.hold.Lock()
	defer m.hold.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, batch...)
	return timescale.Written{Rows: len(batch)}, nil
}

func (m *memory) Close(context.Context) error { return nil }

var clock = time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)

// fixture is a served API.
type fixture struct {
	*memory
	api     *API
	server  *grpc.Server
	service *metrics.Service
	conn    *grpc.ClientConn
	client  metricspb.MetricsServiceClient
}

// serve serves the API over gRPC to a client whose credential belongs to the tenant acme.
func serve(t *testing.T, change func(*metrics.Config)) *fixture {
	t.Helper()
	f := &fixture{memory: &memory{}}
	config := metrics.DefaultConfig()
	config.Shards, config.FlushInterval = 1, 5*time.Millisecond
	if change != nil {
		change(&config)
	}
	var err error
	f.service, err = metrics.New(t.Context(), config, metrics.Dependencies{
		NewWriter: func() metrics.Writer { return f.memory }, Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	f.serve(t, f.service)
	t.Cleanup(func() {
		f.service.Close(context.Background())
	})
	return f
}

func (f *fixture) serve(t *testing.T, submitter Submitter) {
	t.Helper()
	var err error
	f.api, err = New(DefaultConfig(), Dependencies{Submitter: submitter, Now: func() time.Time { return clock }})
	require.NoError(t, err)
	principal, err := auth.NewPrincipal("acme", "test", []string{"*"})
	require.NoError(t, err)
	f.server = grpc.NewServer(
		grpc.ForceServerCodecV2(rpc.Codec{}),
		grpc.UnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(auth.NewContext(ctx, principal), r)
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &principalStream{ServerStream: s, ctx: auth.NewContext(s.Context(), principal)})
		}))
	f.api.Register(f.server)
	listener := bufconn.Listen(1 << 20)
	var serving sync.WaitGroup
	serving.Go(func() { _ = f.server.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	f.conn = conn
	f.client = metricspb.NewMetricsServiceClient(conn)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		f.server.Stop()
		serving.Wait()
		require.NoError(t, f.api.Close())
	})
}

type principalStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *principalStream) Context() context.Context { return s.ctx }

func request(names ...string) *metricspb.LogMetricsRequest {
	r := &metricspb.LogMetricsRequest{Service: "billing", Instance: "host-1"}
	for _, name := range names {
		r.Metrics = append(r.Metrics, &metricspb.Metric{Name: name, Value: 1})
	}
	return r
}

const committed = storagepb.AckLevel_ACK_LEVEL_COMMITTED

func names(all []metrics.Metric) (names []string) {
	for _, m := range all {
		names = append(names, m.Name)
	}
	return names
}

func TestCommittedMetricsHoldEveryField(t *testing.T) {
	f := serve(t, nil)
	response, err := f.client.LogMetric(t.Context(), &metricspb.LogMetricsRequest{
		Service: "billing", Instance: "host-1", AckLevel: committed,
		Metrics: []*metricspb.Metric{
			{Name: "requests", Value: 3, TimestampUnixNano: 12345, Type: metricspb.MetricType_METRIC_TYPE_COUNTER, Unit: "1",
				Labels: map[string]string{"b": "2", "a": "1"}},
			{Name: "temperature", Value: math.Inf(-1)},
		},
	})
	require.NoError(t, err)
	require.True(t, proto.Equal(&metricspb.LogMetricsResponse{Level: committed, AcceptedCount: 2}, response))
	require.Equal(t, []metrics.Metric{
		{Tenant: "acme", Service: "billing", Instance: "host-1", Name: "requests", TimeUnixNano: 12345, Type: timescale.Counter,
			Unit: "1", Value: 3, Labels: []byte(`{"a":"1","b":"2"}`)},
		{Tenant: "acme", Service: "billing", Instance: "host-1", Name: "temperature", TimeUnixNano: clock.UnixNano(),
			Type: timescale.Gauge, Value: math.Inf(-1)},
	}, f.got)
}

func TestBufferedIsAnsweredBeforeItIsWritten(t *testing.T) {
	f := serve(t, nil)
	f.hold.Lock()
	response, err := f.client.LogMetric(t.Context(), request("a"))
	require.NoError(t, err)
	require.Equal(t, storagepb.AckLevel_ACK_LEVEL_BUFFERED, response.GetLevel())

	r := request("b")
	r.AckLevel = committed
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = f.client.LogMetric(ctx, r)
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	f.hold.Unlock()
}

// requireRefused checks the status and its details.
func requireRefused(t *testing.T, err error, code storagepb.ErrorCode, grpcCode codes.Code, field string) *storagepb.BatchError {
	t.Helper()
	require.Equal(t, grpcCode, status.Code(err), "%v", err)
	for _, detail := range status.Convert(err).Details() {
		if e, ok := detail.(*storagepb.BatchError); ok {
			require.Equal(t, code, e.GetCode(), "%v", err)
			require.Equal(t, field, e.GetField())
			return e
		}
	}
	require.Fail(t, "no BatchError among the details", "%v", err)
	return nil
}

func TestBadRequestsAreRefusedWhole(t *testing.T) {
	f := serve(t, nil)
	metric := func(change func(*metricspb.Metric)) *metricspb.LogMetricsRequest {
		r := request("good", "bad", "good")
		change(r.Metrics[1])
		return r
	}
	const missing, invalid = storagepb.ErrorCode_ERROR_CODE_MISSING_FIELD, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD
	none := -1
	for name, c := range map[string]struct {
		request *metricspb.LogMetricsRequest
		code    storagepb.ErrorCode
		field   string
		index   int
	}{
		"no service":       {&metricspb.LogMetricsRequest{Metrics: request("a").Metrics}, missing, "service", none},
		"long service":     {&metricspb.LogMetricsRequest{Service: strings.Repeat("s", 256)}, invalid, "service", none},
		"NUL in service":   {&metricspb.LogMetricsRequest{Service: "a\x00"}, invalid, "service", none},
		"long instance":    {&metricspb.LogMetricsRequest{Service: "a", Instance: strings.Repeat("s", 256)}, invalid, "instance", none},
		"no metrics":       {request(), storagepb.ErrorCode_ERROR_CODE_EMPTY_BATCH, "metrics", none},
		"too many metrics": {request(make([]string, 10_001)...), storagepb.ErrorCode_ERROR_CODE_TOO_LARGE, "metrics", none},
		"no name":          {metric(func(m *metricspb.Metric) { m.Name = "" }), missing, "name", 1},
		"long name":        {metric(func(m *metricspb.Metric) { m.Name = strings.Repeat("n", 256) }), invalid, "name", 1},
		"long unit":        {metric(func(m *metricspb.Metric) { m.Unit = strings.Repeat("n", 64) }), invalid, "unit", 1},
		"NaN":              {metric(func(m *metricspb.Metric) { m.Value = math.NaN() }), invalid, "value", 1},
		"before 1970":      {metric(func(m *metricspb.Metric) { m.TimestampUnixNano = -1 }), invalid, "timestamp_unix_nano", 1},
		"far ahead": {metric(func(m *metricspb.Metric) { m.TimestampUnixNano = clock.Add(10*time.Minute + 1).UnixNano() }), invalid,
			"timestamp_unix_nano", 1},
		"unknown type":    {metric(func(m *metricspb.Metric) { m.Type = 7 }), invalid, "type", 1},
		"empty label key": {metric(func(m *metricspb.Metric) { m.Labels = map[string]string{"": "x"} }), invalid, "labels", 1},
		"NUL in a label":  {metric(func(m *metricspb.Metric) { m.Labels = map[string]string{"x": "\x00"} }), invalid, "labels", 1},
		"unknown level":   {&metricspb.LogMetricsRequest{Service: "a", AckLevel: 9}, invalid, "ack_level", none},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.client.LogMetric(t.Context(), c.request)
			e := requireRefused(t, err, c.code, codes.InvalidArgument, c.field)
			require.Equal(t, c.index == none, e.RecordIndex == nil)
			if c.index != none {
				require.EqualValues(t, c.index, e.GetRecordIndex())
			}
		})
	}
	f.service.Close(t.Context())
	require.Empty(t, f.got)
}

func TestLargestValidRequestIsTaken(t *testing.T) {
	f := serve(t, nil)
	r := request("n")
	r.Service, r.Instance, r.AckLevel = strings.Repeat("s", 255), strings.Repeat("i", 255), committed
	r.Metrics[0] = &metricspb.Metric{Name: strings.Repeat("n", 255), Unit: strings.Repeat("u", 63), Value: math.MaxFloat64,
		TimestampUnixNano: clock.Add(10 * time.Minute).UnixNano()}
	_, err := f.client.LogMetric(t.Context(), r)
	require.NoError(t, err)
}

func TestBatchIsTakenWholeOrNotAtAll(t *testing.T) {
	f := serve(t, nil)
	bad := request("c", "d")
	bad.Metrics[1].Value = math.NaN()
	_, err := f.client.LogMetricBatch(t.Context(), &metricspb.LogMetricBatchRequest{
		Requests: []*metricspb.LogMetricsRequest{request("a", "b"), bad},
	})
	e := requireRefused(t, err, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, codes.InvalidArgument, "value")
	require.EqualValues(t, 3, e.GetRecordIndex(), "counted over all requests")
	_, err = f.client.LogMetricBatch(t.Context(), &metricspb.LogMetricBatchRequest{})
	requireRefused(t, err, storagepb.ErrorCode_ERROR_CODE_EMPTY_BATCH, codes.InvalidArgument, "requests")

	response, err := f.client.LogMetricBatch(t.Context(), &metricspb.LogMetricBatchRequest{
		AckLevel: committed, Requests: []*metricspb.LogMetricsRequest{request("a", "b"), request("c")},
	})
	require.NoError(t, err)
	require.EqualValues(t, 3, response.GetAcceptedCount())
	require.Equal(t, []string{"a", "b", "c"}, names(f.got))
}

// bytesCodec sends bytes as they are.
type bytesCodec struct{ encoding.CodecV2 }

func (c bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func TestBytesThatAreNoMessageAreRefused(t *testing.T) {
	f := serve(t, nil)
	codec := grpc.ForceCodecV2(bytesCodec{encoding.GetCodecV2("proto")})
	const malformed = storagepb.ErrorCode_ERROR_CODE_MALFORMED
	noUTF8 := []byte{0x0a, 1, 0xff} // service: one byte that is no UTF-8
	for _, raw := range [][]byte{{0xff}, noUTF8} {
		for _, method := range []string{
			metricspb.MetricsService_LogMetric_FullMethodName, metricspb.MetricsService_LogMetricBatch_FullMethodName,
		} {
			response := &metricspb.LogMetricsResponse{}
			err := f.conn.Invoke(t.Context(), method, append(raw[:len(raw):len(raw)], 0xff), response, codec)
			requireRefused(t, err, malformed, codes.InvalidArgument, "")
		}
	}

	stream, err := f.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		metricspb.MetricsService_LogMetricStream_FullMethodName, codec)
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(noUTF8))
	require.NoError(t, stream.SendMsg(request("a")))
	require.NoError(t, stream.CloseSend())
	var response metricspb.LogMetricsResponse
	require.NoError(t, stream.RecvMsg(&response))
	require.Equal(t, malformed, response.GetError().GetCode())
	response.Reset()
	require.NoError(t, stream.RecvMsg(&response))
	require.EqualValues(t, 1, response.GetAcceptedCount())
	require.ErrorIs(t, stream.RecvMsg(&response), io.EOF)
}

func TestWALSyncedIsUnsupported(t *testing.T) {
	f := serve(t, nil)
	r := request("a")
	r.AckLevel = storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED
	_, err := f.client.LogMetric(t.Context(), r)
	requireRefused(t, err, storagepb.ErrorCode_ERROR_CODE_UNSUPPORTED, codes.FailedPrecondition, "ack_level")
}

func TestWithoutADatabaseTheSettingIsNamed(t *testing.T) {
	f := &fixture{}
	f.serve(t, nil)
	_, err := f.client.LogMetric(t.Context(), request("a"))
	e := requireRefused(t, err, storagepb.ErrorCode_ERROR_CODE_UNSUPPORTED, codes.FailedPrecondition, "")
	require.Contains(t, e.GetMessage(), "timescale.dsn")
}

func TestFullBufferIsResourceExhausted(t *testing.T) {
	f := serve(t, func(c *metrics.Config) { c.BufferSize = 2 })
	f.hold.Lock()
	defer f.hold.Unlock()
	_, err := f.client.LogMetric(t.Context(), request("a", "b"))
	require.NoError(t, err)
	_, err = f.client.LogMetric(t.Context(), request("c"))
	e := requireRefused(t, err, storagepb.ErrorCode_ERROR_CODE_OVERLOADED, codes.ResourceExhausted, "")
	require.Positive(t, e.GetRetryDelayMs())
}

func TestCallWithoutACredentialIsRefused(t *testing.T) {
	api, err := New(DefaultConfig(), Dependencies{Now: time.Now})
	require.NoError(t, err)
	_, err = api.LogMetric(t.Context(), request("a"))
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}

func TestStreamAnswersInOrderAndGoesOnAfterARefusal(t *testing.T) {
	f := serve(t, nil)
	stream, err := f.client.LogMetricStream(t.Context())
	require.NoError(t, err)
	const n = 3 * maxUnanswered
	var sent []string
	for i := range n {
		r := request(strings.Repeat("m", i+1))
		switch {
		case i%5 == 4:
			r.Metrics[0].Value = math.NaN()
		case i%2 == 0:
			r.AckLevel = committed
			fallthrough
		default:
			sent = append(sent, r.Metrics[0].Name)
		}
		require.NoError(t, stream.Send(r))
	}
	require.NoError(t, stream.CloseSend())
	for i := range n {
		response, err := stream.Recv()
		require.NoError(t, err)
		switch {
		case i%5 == 4:
			require.Equal(t, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, response.GetError().GetCode(), "answer %d", i)
			require.Zero(t, response.GetAcceptedCount())
		case i%2 == 0:
			require.Equal(t, committed, response.GetLevel(), "answer %d", i)
		default:
			require.Equal(t, storagepb.AckLevel_ACK_LEVEL_BUFFERED, response.GetLevel(), "answer %d", i)
		}
	}
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	f.service.Close(t.Context())
	require.Equal(t, sent, names(f.got))
}

func TestIdleStreamDoesNotHoldUpAGracefulStop(t *testing.T) {
	f := serve(t, nil)
	stream, err := f.client.LogMetricStream(t.Context())
	require.NoError(t, err)
	r := request("a")
	r.AckLevel = committed
	f.hold.Lock() // the answer is still due when the drain begins
	require.NoError(t, stream.Send(r))
	require.NoError(t, stream.Send(request("b")))
	require.Eventually(t, func() bool { return f.service.Buffered() == 2 }, time.Minute, time.Millisecond)
	f.api.Drain()
	stopped := make(chan struct{})
	go func() {
		f.server.GracefulStop()
		close(stopped)
	}()
	f.hold.Unlock()
	for _, level := range []storagepb.AckLevel{committed, storagepb.AckLevel_ACK_LEVEL_BUFFERED} {
		response, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, level, response.GetLevel())
	}
	_, err = stream.Recv()
	requireRefused(t, err, storagepb.ErrorCode_ERROR_CODE_UNAVAILABLE, codes.Unavailable, "")
	<-stopped
}

func TestClientThatGoesAwayEndsItsStream(t *testing.T) {
	f := serve(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := f.client.LogMetricStream(ctx)
	require.NoError(t, err)
	f.hold.Lock()
	defer f.hold.Unlock()
	r := request("a")
	r.AckLevel = committed
	for range 2 * maxUnanswered {
		require.NoError(t, stream.Send(r))
	}
	cancel()
	_, err = stream.Recv()
	require.Equal(t, codes.Canceled, status.Code(err))
	f.server.GracefulStop()
	require.NoError(t, f.api.Close()) // joins the goroutines of the stream
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{}, {MaxMetrics: 1, MaxFuture: -1}} {
		_, err := New(c, Dependencies{})
		require.Error(t, err)
	}
	c := DefaultConfig()
	require.NoError(t, c.Validate())
}
