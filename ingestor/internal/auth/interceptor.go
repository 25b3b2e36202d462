package auth

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// healthPrefix is the one service that needs no credential: load balancers ask it.
const healthPrefix = "/grpc.health.v1.Health/"

// Unary returns the interceptor for unary calls. It refuses with UNAUTHENTICATED.
func (a *Authenticator) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if strings.HasPrefix(info.FullMethod, healthPrefix) {
			return handler(ctx, req)
		}
		principal, err := a.fromMetadata(ctx)
		if err != nil {
			return nil, err
		}
		return handler(NewContext(ctx, principal), req)
	}
}

// Stream returns the interceptor for streams. The credential is checked when the stream begins.
func (a *Authenticator) Stream() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if strings.HasPrefix(info.FullMethod, healthPrefix) {
			return handler(srv, stream)
		}
		principal, err := a.fromMetadata(stream.Context())
		if err != nil {
			return err
		}
		return handler(srv, &authenticatedStream{stream, NewContext(stream.Context(), principal)})
	}
}

func (a *Authenticator) fromMetadata(ctx context.Context) (*Principal, error) {
	var authorization string
	// Two headers are not one credential: which of them an intermediary has checked is anybody's guess.
	switch values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) {
	case 0:
	case 1:
		authorization = values[0]
	default:
		authorization = "ambiguous"
	}
	principal, err := a.Authenticate(ctx, authorization)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	return principal, nil
}

type authenticatedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *authenticatedStream) Context() context.Context { return s.ctx }
