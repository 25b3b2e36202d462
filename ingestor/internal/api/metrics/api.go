package metrics

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/metrics"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Submitter takes validated metrics, all or none, and does not block. *metrics.Service is one.
type Submitter interface {
	Submit(metrics []metrics.Metric) (*metrics.Receipt, error)
}

// Config bounds what is accepted.
type Config struct {
	// MaxMetrics bounds the metrics of one call, or of one message of a stream.
	MaxMetrics int
	// MaxFuture is how far ahead of the server's clock a timestamp may lie.
	MaxFuture time.Duration
}

// DefaultConfig returns the settings in force where the configuration says nothing.
func DefaultConfig() Config { return Config{MaxMetrics: 10_000, MaxFuture: 10 * time.Minute} }

// Validate reports the first unusable setting.
func (c *Config) Validate() error {
	if c.MaxMetrics < 1 || c.MaxFuture < 0 {
		return fmt.Errorf("metrics api: at most %d metrics, at most %v ahead: out of range", c.MaxMetrics, c.MaxFuture)
	}
	return nil
}

// Dependencies are what the API works with.
type Dependencies struct {
	// Submitter is nil where no database is configured.
	Submitter Submitter
	// Now is the clock that timestamps are held against.
	Now func() time.Time
}

// API serves metrics.v1.MetricsService. Safe for concurrent use.
type API struct {
	config    Config
	submitter Submitter
	now       func() time.Time

	drainOnce sync.Once
	draining  chan struct{}
	receivers sync.WaitGroup
}

// New returns an API that is ready to be registered.
func New(config Config, deps Dependencies) (*API, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &API{config: config, submitter: deps.Submitter, now: deps.Now, draining: make(chan struct{})}, nil
}

// Register adds the service to a server whose codec is rpc.Codec.
func (a *API) Register(server grpc.ServiceRegistrar) {
	server.RegisterService(&serviceDesc, a)
}

// Drain refuses further calls with UNAVAILABLE. Streams end with the same status when what they have read is answered.
func (a *API) Drain() { a.drainOnce.Do(func() { close(a.draining) }) }

// Close drains and waits for the goroutines of streams. Call it when the gRPC server has stopped.
func (a *API) Close() error {
	a.Drain()
	a.receivers.Wait()
	return nil
}

// LogMetric takes the metrics of one service.
func (a *API) LogMetric(ctx context.Context, r *metricspb.LogMetricsRequest) (*metricspb.LogMetricsResponse, error) {
	return a.log(ctx, r.GetAckLevel(), []*metricspb.LogMetricsRequest{r})
}

// LogMetricBatch takes several requests, all or none.
func (a *API) LogMetricBatch(
	ctx context.Context, r *metricspb.LogMetricBatchRequest,
) (*metricspb.LogMetricsResponse, error) {
	return a.log(ctx, r.GetAckLevel(), r.GetRequests())
}

func (a *API) log(
	ctx context.Context, level storagepb.AckLevel, requests []*metricspb.LogMetricsRequest,
) (*metricspb.LogMetricsResponse, error) {
	tenant, err := tenantOf(ctx)
	if err != nil {
		return nil, err
	}
	taken, err := a.submit(tenant, level, requests)
	if err != nil {
		return nil, rpc.Error(err)
	}
	response, err := taken.response(ctx)
	return response, rpc.Error(err)
}

// taken is a request that the service has accepted.
type taken struct {
	level   storagepb.AckLevel
	count   int
	receipt *metrics.Receipt
}

// submit validates requests and hands them to the service as one. Its errors are *refusal.Error.
func (a *API) submit(
	tenant string, level storagepb.AckLevel, requests []*metricspb.LogMetricsRequest,
) (taken, error) {
	if a.submitter == nil {
		return taken{}, refusal.New(refusal.Unsupported, "",
			"metrics need a database and none is configured: set timescale.dsn or timescale.dsn_file")
	}
	if a.isDraining() {
		return taken{}, errDraining
	}
	level, refused := reachable(level)
	if refused != nil {
		return taken{}, refused
	}
	v := validator{config: a.config, tenant: tenant, now: a.now()}
	if refused := v.requests(requests); refused != nil {
		return taken{}, refused
	}
	receipt, err := a.submitter.Submit(v.metrics)
	return taken{level: level, count: len(v.metrics), receipt: receipt}, err
}

// reachable returns the level that will be reached for the one that was asked for.
func reachable(level storagepb.AckLevel) (storagepb.AckLevel, *refusal.Error) {
	switch level {
	case storagepb.AckLevel_ACK_LEVEL_UNSPECIFIED, storagepb.AckLevel_ACK_LEVEL_BUFFERED:
		return storagepb.AckLevel_ACK_LEVEL_BUFFERED, nil
	case storagepb.AckLevel_ACK_LEVEL_COMMITTED:
		return level, nil
	case storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED:
		return level, refusal.New(refusal.Unsupported, "ack_level",
			"metrics do not pass through the log: ask for BUFFERED or COMMITTED, or send records to IngestionService")
	default:
		return level, refusal.New(refusal.InvalidField, "ack_level", "ack level %d is not known", level)
	}
}

// response waits for the level that was asked for.
func (t taken) response(ctx context.Context) (*metricspb.LogMetricsResponse, error) {
	if t.level == storagepb.AckLevel_ACK_LEVEL_COMMITTED {
		if err := t.receipt.Wait(ctx); err != nil {
			return nil, err
		}
	}
	return &metricspb.LogMetricsResponse{Level: t.level, AcceptedCount: uint32(t.count)}, nil
}

func (a *API) isDraining() bool {
	select {
	case <-a.draining:
		return true
	default:
		return false
	}
}

var errDraining = refusal.Retry(refusal.Unavailable, time.Second, "the server is shutting down")

// tenantOf returns the tenant of the call's credential.
func tenantOf(ctx context.Context) (string, error) {
	principal, ok := auth.FromContext(ctx)
	if !ok {
		return "", status.Error(codes.Unauthenticated, "the call carries no credential")
	}
	return principal.Tenant, nil
}
