package ingestion

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	ingest "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Submitter takes validated batches. Its methods are called by many goroutines.
type Submitter interface {
	// Admit is called before the batch takes memory, with s.Tenant and s.Block set. On nil Submit or Withdraw follows.
	Admit(ctx context.Context, s *ingest.Submission, bytes int) error
	Withdraw(s *ingest.Submission)
	// Submit: on nil the batch and its buffer are the submitter's, which calls s.Done exactly once; on an error nothing was taken.
	Submit(s *ingest.Submission) error
}

// Observer takes the durations of stages. It is called by many goroutines.
type Observer interface {
	Observe(stage telemetry.Stage, d time.Duration)
}

// Dependencies are what the API works with. All are needed, but for Registerer.
type Dependencies struct {
	Submitter  Submitter
	Buffers    *slab.Pool
	Observer   Observer
	Registerer prometheus.Registerer
	// Now is the clock that timestamps are held against.
	Now func() time.Time
}

// API serves storage.IngestionService. Safe for concurrent use.
type API struct {
	config    Config
	submitter Submitter
	buffers   *slab.Pool
	observer  Observer
	now       func() time.Time
	metrics   *metrics

	drainOnce sync.Once
	draining  chan struct{}
	receivers sync.WaitGroup
}

// New returns an API that is ready to be registered.
func New(config Config, deps Dependencies) (*API, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("ingestion api: %w", err)
	}
	// A size class is up to a quarter larger than what it was asked for.
	if largest := int64(config.MaxBatchBytes) * 5 / 4; largest > deps.Buffers.BudgetBytes() {
		return nil, fmt.Errorf("ingestion api: a batch of %d bytes does not fit the memory budget of %d bytes",
			config.MaxBatchBytes, deps.Buffers.BudgetBytes())
	}
	return &API{
		config:    config,
		submitter: deps.Submitter,
		buffers:   deps.Buffers,
		observer:  deps.Observer,
		now:       deps.Now,
		metrics:   newMetrics(deps.Registerer),
		draining:  make(chan struct{}),
	}, nil
}

// ServerOptions returns the options that the gRPC server needs for this API: the codec that hands out raw bytes, and a size
// limit above the API's own.
func (a *API) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(rpc.Codec{}),
		grpc.MaxRecvMsgSize(grpcHeadroom * a.config.MaxBatchBytes),
	}
}

// Register adds the service to a server made with ServerOptions.
func (a *API) Register(server grpc.ServiceRegistrar) { server.RegisterService(&serviceDesc, a) }

// Drain refuses all further batches with UNAVAILABLE. Streams end, with the same status, as soon as the batches that were
// accepted before have been answered. Drain does not wait for that.
func (a *API) Drain() { a.drainOnce.Do(func() { close(a.draining) }) }

// Close drains and waits for the goroutines of streams. Call it when the gRPC server has stopped.
func (a *API) Close() error {
	a.Drain()
	a.receivers.Wait()
	return nil
}

func (a *API) isDraining() bool {
	select {
	case <-a.draining:
		return true
	default:
		return false
	}
}

// handler is what serviceDesc demands of its implementation.
type handler interface {
	writeBatch(ctx context.Context, message *rpc.RawMessage) (*ack, error)
	writeStream(stream grpc.ServerStream) error
}

// serviceDesc is that of storage.IngestionService, with handlers that receive raw bytes.
var serviceDesc = grpc.ServiceDesc{
	ServiceName: storagepb.IngestionService_ServiceDesc.ServiceName,
	HandlerType: (*handler)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "WriteBatch", Handler: handleWriteBatch}},
	Streams: []grpc.StreamDesc{{
		StreamName: "WriteStream", Handler: handleWriteStream, ServerStreams: true, ClientStreams: true,
	}},
	Metadata: storagepb.IngestionService_ServiceDesc.Metadata,
}

// handleWriteBatch has the order of parameters that grpc.MethodDesc asks for.
//
//nolint:revive // context-as-argument
func handleWriteBatch(
	srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
) (any, error) {
	message := new(rpc.RawMessage)
	if err := decode(message); err != nil {
		return nil, err
	}
	defer message.Free() // an interceptor may refuse the call
	handle := func(ctx context.Context, _ any) (any, error) {
		response, err := srv.(handler).writeBatch(ctx, message)
		if err != nil {
			return nil, rpc.Error(err)
		}
		return response, nil
	}
	if interceptor == nil {
		return handle(ctx, message)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: storagepb.IngestionService_WriteBatch_FullMethodName}
	return interceptor(ctx, message, info, handle)
}

func handleWriteStream(srv any, stream grpc.ServerStream) error {
	return rpc.Error(srv.(handler).writeStream(stream))
}

// errUnauthenticated is returned where no interceptor has put a principal into the context.
var errUnauthenticated = status.Error(codes.Unauthenticated, "the call carries no credential")

func principalOf(ctx context.Context) (*auth.Principal, error) {
	principal, ok := auth.FromContext(ctx)
	if !ok {
		return nil, errUnauthenticated
	}
	return principal, nil
}
