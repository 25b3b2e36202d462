package ingestion

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// BenchmarkWriteStream measures the API alone: the client sends bytes encoded before, the submitter acknowledges at once.
func BenchmarkWriteStream(b *testing.B) {
	for name, m := range map[string]*storagepb.WriteBatchRequest{
		"1": request(1, 1), "1000": request(1, 1000), "1000-columns": columnsRequest(1, 1000),
	} {
		b.Run(name, func(b *testing.B) {
			config := testConfig()
			config.MaxBatchBytes, config.MaxBatchRecords = 256<<10, 1000
			s := startServer(b, config, &fakeSubmitter{discard: true})
			raw := marshal(b, m)
			stream, err := s.conn.NewStream(b.Context(), &storagepb.IngestionService_ServiceDesc.Streams[0],
				storagepb.IngestionService_WriteStream_FullMethodName, grpc.ForceCodecV2(bytesCodec{}))
			require.NoError(b, err)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			b.ResetTimer()
			sent := make(chan error, 1)
			go func() {
				for range b.N {
					if err := stream.SendMsg(raw); err != nil {
						sent <- err
						return
					}
				}
				sent <- stream.CloseSend()
			}()
			var response storagepb.WriteBatchResponse
			for range b.N {
				require.NoError(b, stream.RecvMsg(&response))
			}
			require.NoError(b, <-sent)
		})
	}
}
