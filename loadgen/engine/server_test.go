package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// memoryServer keeps every batch in memory, decoded by protobuf-go, and knows batches that are sent again.
type memoryServer struct {
	storagepb.UnimplementedIngestionServiceServer
	metricspb.UnimplementedMetricsServiceServer

	// before, where set, is called with each batch before it is stored, and again with stored set before it is answered. An
	// error of type *storagepb.BatchError is answered; any other breaks the stream or call.
	before func(r *storagepb.WriteBatchRequest, stored bool) error

	// level, where set, is what the ack of a batch says instead of WAL_SYNCED.
	level func(r *storagepb.WriteBatchRequest) storagepb.AckLevel

	mu       sync.Mutex
	batches  []*storagepb.WriteBatchRequest // stored, in order of their LSNs
	tenants  []string                       // of the batches: their credential
	first    map[string]uint64              // first LSN by producer and sequence
	last     map[string]uint64              // last sequence by producer
	next     uint64                         // LSN
	disorder int                            // new batches below their producer's last sequence
	metrics  []*metricspb.LogMetricsRequest
}

func newMemoryServer() *memoryServer {
	return &memoryServer{first: make(map[string]uint64), last: make(map[string]uint64), next: 1}
}

// batchError makes a BatchError an error.
type batchErrorAnswer struct{ *storagepb.BatchError }

func (e batchErrorAnswer) Error() string { return e.Code.String() }

func refusal(code storagepb.ErrorCode) error {
	return batchErrorAnswer{&storagepb.BatchError{Code: code}}
}

func size(r *storagepb.WriteBatchRequest) int {
	return len(r.GetRecords()) + len(r.GetColumns().GetTimestampsUnixNano())
}

func (s *memoryServer) store(ctx context.Context, r *storagepb.WriteBatchRequest) (*storagepb.Ack, error) {
	if s.before != nil {
		if err := s.before(r, false); err != nil {
			return nil, err
		}
	}
	ack := s.keep(ctx, r)
	if s.before != nil {
		if err := s.before(r, true); err != nil {
			return nil, err
		}
	}
	return ack, nil
}

func (s *memoryServer) keep(ctx context.Context, r *storagepb.WriteBatchRequest) *storagepb.Ack {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenant := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get("authorization")) == 1 {
		tenant = md.Get("authorization")[0]
	}
	n := uint64(size(r))
	producer := string(r.GetProducerId())
	key := producer + string(protowire.AppendVarint(nil, r.GetSequence()))
	first, duplicate := s.first[key]
	if !duplicate {
		first = s.next
		s.next += n
		s.first[key] = first
		s.batches = append(s.batches, r)
		s.tenants = append(s.tenants, tenant)
		if r.GetSequence() < s.last[producer] {
			s.disorder++
		}
		s.last[producer] = r.GetSequence()
	}
	level := storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED
	if s.level != nil {
		level = s.level(r)
	}
	return &storagepb.Ack{
		Level:    level,
		FirstLsn: first, LastLsn: first + n - 1, RecordCount: uint32(n), Duplicate: duplicate,
	}
}

func (s *memoryServer) WriteBatch(
	ctx context.Context, r *storagepb.WriteBatchRequest,
) (*storagepb.WriteBatchResponse, error) {
	ack, err := s.store(ctx, r)
	var answer batchErrorAnswer
	if errors.As(err, &answer) {
		st, detailErr := status.New(codes.FailedPrecondition, "refused").WithDetails(answer.BatchError)
		return nil, errors.Join(detailErr, st.Err())
	}
	if err != nil {
		return nil, err
	}
	return &storagepb.WriteBatchResponse{
		BatchId: r.GetBatchId(), Outcome: &storagepb.WriteBatchResponse_Ack{Ack: ack},
	}, nil
}

func (s *memoryServer) WriteStream(
	stream grpc.BidiStreamingServer[storagepb.WriteBatchRequest, storagepb.WriteBatchResponse],
) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		response := &storagepb.WriteBatchResponse{BatchId: r.GetBatchId()}
		ack, err := s.store(stream.Context(), r)
		var answer batchErrorAnswer
		switch {
		case errors.As(err, &answer):
			response.Outcome = &storagepb.WriteBatchResponse_Error{Error: answer.BatchError}
		case err != nil:
			return err
		default:
			response.Outcome = &storagepb.WriteBatchResponse_Ack{Ack: ack}
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func (s *memoryServer) LogMetric(
	_ context.Context, r *metricspb.LogMetricsRequest,
) (*metricspb.LogMetricsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics = append(s.metrics, r)
	return &metricspb.LogMetricsResponse{
		Level: storagepb.AckLevel_ACK_LEVEL_BUFFERED, AcceptedCount: uint32(len(r.GetMetrics())),
	}, nil
}

// serve starts a gRPC server for s and returns its address. It is stopped when the test ends.
func (s *memoryServer) serve(t testing.TB) string {
	t.Helper()
	server := grpc.NewServer()
	storagepb.RegisterIngestionServiceServer(server, s)
	metricspb.RegisterMetricsServiceServer(server, s)
	return listen(t, server)
}

func listen(t testing.TB, server *grpc.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return listener.Addr().String()
}

// dropCodec reads of a request only what an ack needs, for a server that costs next to nothing.
type dropCodec struct{ encoding.CodecV2 }

type droppedRequest struct {
	batchID uint64
}

func (c dropCodec) Unmarshal(data mem.BufferSlice, v any) error {
	d, ok := v.(*droppedRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	// The batch id is the first field.
	id, n := protowire.ConsumeVarint(data[0].ReadOnlyData()[1:])
	if n < 0 {
		return io.ErrUnexpectedEOF
	}
	d.batchID = id
	return nil
}

// serveNull starts a server that drops what it is sent, and acks each batch as one of records records.
func serveNull(t testing.TB, records uint32) string {
	t.Helper()
	stream := func(_ any, stream grpc.ServerStream) error {
		for {
			var d droppedRequest
			err := stream.RecvMsg(&d)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			ack := &storagepb.Ack{Level: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, FirstLsn: 1, RecordCount: records}
			err = stream.SendMsg(&storagepb.WriteBatchResponse{
				BatchId: d.batchID, Outcome: &storagepb.WriteBatchResponse_Ack{Ack: ack},
			})
			if err != nil {
				return err
			}
		}
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(dropCodec{encoding.GetCodecV2("proto")}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "storage.IngestionService",
		Streams: []grpc.StreamDesc{{
			StreamName: "WriteStream", Handler: stream, ServerStreams: true, ClientStreams: true,
		}},
	}, nil)
	return listen(t, server)
}
