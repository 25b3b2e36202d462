package ingestor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
)

const (
	// streamWindowBytes and connectionWindowBytes let a client keep several batches under way on a stream without waiting for
	// window updates; they also bound what gRPC itself buffers.
	streamWindowBytes     = 4 << 20
	connectionWindowBytes = 16 << 20
	transportBufferBytes  = 128 << 10
	// A client that has gone without a word is noticed within a minute and a half.
	keepaliveIdle    = time.Minute
	keepaliveTimeout = 20 * time.Second
	// Clients may ping as often as this.
	keepaliveMinInterval = 10 * time.Second
	maxStreamsPerClient  = 1024
	// callWorkers keep their grown stacks from call to call; a new goroutine for each call costs a quarter more CPU time. Calls beyond
	// them, and beside long streams, get goroutines of their own.
	callWorkers = 64
)

// grpcServer serves our services and grpc.health.v1. Its goroutine ends with stop.
type grpcServer struct {
	server   *grpc.Server
	health   *healthServer
	listener net.Listener
	done     chan struct{}
}

// grpcService is an implementation of one of our services.
type grpcService interface {
	Register(server grpc.ServiceRegistrar)
}

func startGRPC(address string, a *auth.Authenticator, options []grpc.ServerOption, services ...grpcService) (*grpcServer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	options = append(slices.Clip(options),
		grpc.Creds(a.TransportCredentials()),
		grpc.ChainUnaryInterceptor(a.Unary()),
		grpc.ChainStreamInterceptor(a.Stream()),
		grpc.MaxConcurrentStreams(maxStreamsPerClient),
		grpc.NumStreamWorkers(callWorkers),
		grpc.WaitForHandlers(true), // what handlers use is closed after stop
		grpc.StaticStreamWindowSize(streamWindowBytes),
		grpc.StaticConnWindowSize(connectionWindowBytes),
		grpc.ReadBufferSize(transportBufferBytes),
		grpc.WriteBufferSize(transportBufferBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveIdle, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinInterval, PermitWithoutStream: true}),
	)
	g := &grpcServer{server: grpc.NewServer(options...), health: newHealthServer(), listener: listener, done: make(chan struct{})}
	for _, service := range services {
		service.Register(g.server)
	}
	healthpb.RegisterHealthServer(g.server, g.health)
	go func() {
		defer close(g.done)
		// It ends with nil after stop; an error of the listener ends it too, and health checks find that.
		_ = g.server.Serve(listener)
	}()
	return g, nil
}

func (g *grpcServer) address() string { return g.listener.Addr().String() }

// healthServer is gRPC's own, whose watches would hold up a graceful stop for as long as their clients like.
type healthServer struct {
	*health.Server
	stopping context.Context //nolint:containedctx // it ends with the server, not with a call
	stop     context.CancelFunc
}

func newHealthServer() *healthServer {
	h := &healthServer{Server: health.NewServer()}
	h.stopping, h.stop = context.WithCancel(context.Background())
	return h
}

// Watch reports every change until the client leaves or the server stops.
func (h *healthServer) Watch(request *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	err := h.Server.Watch(request, &watch{stream, ctx})
	if h.stopping.Err() != nil {
		return status.Error(codes.Unavailable, "the server is shutting down")
	}
	return err
}

// watch is a Watch call with a context of ours.
type watch struct {
	healthpb.Health_WatchServer
	ctx context.Context //nolint:containedctx // as in every gRPC stream
}

func (w *watch) Context() context.Context { return w.ctx }

// stop refuses new calls and waits for those under way; when ctx ends it cuts them off.
func (g *grpcServer) stop(ctx context.Context) {
	g.health.Shutdown()
	g.health.stop()
	cut := context.AfterFunc(ctx, g.server.Stop)
	g.server.GracefulStop()
	cut()
	<-g.done
}
