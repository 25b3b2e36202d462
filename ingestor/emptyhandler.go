package ingestor

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// emptyHandler serves storage.IngestionService and does nothing: what it costs is transport, codec and authentication. It answers every
// request with the same ack at level BUFFERED, for LSN 1 and the records after it.
type emptyHandler struct {
	ack []byte // a WriteBatchResponse without its batch ID
}

func newEmptyHandler(records uint32) (*emptyHandler, error) {
	ack, err := proto.Marshal(&storagepb.WriteBatchResponse{Outcome: &storagepb.WriteBatchResponse_Ack{Ack: &storagepb.Ack{
		Level: storagepb.AckLevel_ACK_LEVEL_BUFFERED, FirstLsn: 1, LastLsn: uint64(records), RecordCount: records,
	}}})
	return &emptyHandler{ack}, err
}

// Register adds the service to a server that has the codec of the ingestion API.
func (h *emptyHandler) Register(server grpc.ServiceRegistrar) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: storagepb.IngestionService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "WriteBatch", Handler: h.writeBatch}},
		Streams:     []grpc.StreamDesc{{StreamName: "WriteStream", Handler: h.writeStream, ServerStreams: true, ClientStreams: true}},
		Metadata:    storagepb.IngestionService_ServiceDesc.Metadata,
	}, h)
}

// writeBatch has the order of parameters that grpc.MethodDesc asks for.
//
//nolint:revive // context-as-argument
func (h *emptyHandler) writeBatch(
	_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
) (any, error) {
	message := new(rpc.RawMessage)
	if err := decode(message); err != nil {
		return nil, err
	}
	message.Free()
	info := &grpc.UnaryServerInfo{Server: h, FullMethod: storagepb.IngestionService_WriteBatch_FullMethodName}
	return interceptor(ctx, message, info, func(context.Context, any) (any, error) { return &emptyAnswer{ack: h.ack}, nil })
}

// maxBatchIDBytes is what a batch ID takes at most where it is the request's first field, as protobuf libraries write it.
const maxBatchIDBytes = 1 + 10

// writeStream answers batch after batch until the client has closed its side or the server's drain has taken too long. The batch ID is
// all that it reads: on a stream, an answer is nothing without it.
func (h *emptyHandler) writeStream(_ any, stream grpc.ServerStream) error {
	message := new(rpc.RawMessage)
	begin := make([]byte, maxBatchIDBytes)
	answer := &emptyAnswer{ack: h.ack}
	for {
		switch err := stream.RecvMsg(message); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		answer.batchID = batch.PeekBatchID(begin[:message.CopyTo(begin)])
		message.Free()
		if err := stream.SendMsg(answer); err != nil {
			return err
		}
	}
}

// emptyAnswer is a WriteBatchResponse. It is an rpc.Encoder, like the answers of the ingestion API.
type emptyAnswer struct {
	batchID uint64
	ack     []byte
}

// EncodedSize implements rpc.Encoder.
func (a *emptyAnswer) EncodedSize() int { return 1 + protowire.SizeVarint(a.batchID) + len(a.ack) }

// AppendEncoded implements rpc.Encoder.
func (a *emptyAnswer) AppendEncoded(dst []byte) []byte {
	dst = protowire.AppendTag(dst, 1, protowire.VarintType) // WriteBatchResponse.batch_id
	return append(protowire.AppendVarint(dst, a.batchID), a.ack...)
}
