package ingestor

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	ingestionapi "github.com/ingestor-project/ingestor/ingestor/internal/api/ingestion"
	metricsapi "github.com/ingestor-project/ingestor/ingestor/internal/api/metrics"
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
)

// grpcServer serves both APIs and grpc.health.v1. Its goroutine ends with stop.
type grpcServer struct {
	server   *grpc.Server
	health   *health.Server
	listener net.Listener
	done     chan struct{}
}

func startGRPC(address string, a *auth.Authenticator, ingestion *ingestionapi.API, metrics *metricsapi.API) (*grpcServer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	options := append(ingestion.ServerOptions(),
		grpc.Creds(a.TransportCredentials()),
		grpc.ChainUnaryInterceptor(a.Unary()),
		grpc.ChainStreamInterceptor(a.Stream()),
		grpc.MaxConcurrentStreams(maxStreamsPerClient),
		grpc.WaitForHandlers(true), // what handlers use is closed after stop
		grpc.StaticStreamWindowSize(streamWindowBytes),
		grpc.StaticConnWindowSize(connectionWindowBytes),
		grpc.ReadBufferSize(transportBufferBytes),
		grpc.WriteBufferSize(transportBufferBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveIdle, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinInterval, PermitWithoutStream: true}),
	)
	g := &grpcServer{server: grpc.NewServer(options...), health: health.NewServer(), listener: listener, done: make(chan struct{})}
	ingestion.Register(g.server)
	metrics.Register(g.server)
	healthpb.RegisterHealthServer(g.server, g.health)
	go func() {
		defer close(g.done)
		// It ends with nil after stop; an error of the listener ends it too, and health checks find that.
		_ = g.server.Serve(listener)
	}()
	return g, nil
}

func (g *grpcServer) address() string { return g.listener.Addr().String() }

// stop refuses new calls and waits for those under way; when ctx ends it cuts them off.
func (g *grpcServer) stop(ctx context.Context) {
	g.health.Shutdown()
	cut := context.AfterFunc(ctx, g.server.Stop)
	g.server.GracefulStop()
	cut()
	<-g.done
}
