package metrics

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
)

// handler is what serviceDesc demands of its implementation.
type handler interface {
	LogMetric(context.Context, *metricspb.LogMetricsRequest) (*metricspb.LogMetricsResponse, error)
	LogMetricBatch(context.Context, *metricspb.LogMetricBatchRequest) (*metricspb.LogMetricsResponse, error)
	LogMetricStream(grpc.ServerStream) error
}

// serviceDesc is that of metrics.v1.MetricsService, with handlers that receive raw bytes and decode them themselves:
// gRPC answers bytes that are no valid message with INTERNAL and ends the stream, and they deserve a refusal like any
// other bad request.
var serviceDesc = grpc.ServiceDesc{
	ServiceName: metricspb.MetricsService_ServiceDesc.ServiceName,
	HandlerType: (*handler)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "LogMetric", Handler: unary(metricspb.MetricsService_LogMetric_FullMethodName, handler.LogMetric)},
		{
			MethodName: "LogMetricBatch",
			Handler:    unary(metricspb.MetricsService_LogMetricBatch_FullMethodName, handler.LogMetricBatch),
		},
	},
	Streams: []grpc.StreamDesc{{
		StreamName: "LogMetricStream", ServerStreams: true, ClientStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error { return srv.(handler).LogMetricStream(stream) },
	}},
	Metadata: metricspb.MetricsService_ServiceDesc.Metadata,
}

// unary makes the handler of a method with requests of type T. Interceptors see the undecoded message.
func unary[T any, M interface {
	*T
	proto.Message
}](
	name string, method func(handler, context.Context, M) (*metricspb.LogMetricsResponse, error),
) grpc.MethodHandler {
	return func(srv any, ctx context.Context, receive func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		raw := new(rpc.RawMessage)
		if err := receive(raw); err != nil {
			return nil, err
		}
		defer raw.Free()
		handle := func(ctx context.Context, _ any) (any, error) {
			request := M(new(T))
			if err := decode(raw, request); err != nil {
				return nil, rpc.Error(err)
			}
			return method(srv.(handler), ctx, request)
		}
		if interceptor == nil {
			return handle(ctx, raw)
		}
		return interceptor(ctx, raw, &grpc.UnaryServerInfo{Server: srv, FullMethod: name}, handle)
	}
}

// decode reads a message. Its error is a *refusal.Error.
func decode(raw *rpc.RawMessage, message proto.Message) error {
	content := make([]byte, raw.Len())
	raw.CopyTo(content)
	if err := proto.Unmarshal(content, message); err != nil {
		name := message.ProtoReflect().Descriptor().Name()
		return refusal.New(refusal.Malformed, "", "the bytes are not a valid %s: %v", name, err)
	}
	return nil
}
