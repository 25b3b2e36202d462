package ingestion

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ingest "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func openStream(t testing.TB, ctx context.Context, s *server) storagepb.IngestionService_WriteStreamClient {
	t.Helper()
	stream, err := s.client.WriteStream(ctx)
	require.NoError(t, err)
	return stream
}

func requireAck(t testing.TB, stream storagepb.IngestionService_WriteStreamClient, batchID uint64) *storagepb.Ack {
	t.Helper()
	response, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, batchID, response.GetBatchId())
	require.NotNil(t, response.GetAck(), "%v", response)
	return response.GetAck()
}

func TestStreamAnswersInTheOrderOfCompletion(t *testing.T) {
	submitter := &fakeSubmitter{held: make(chan *ingest.Submission, 3)}
	s := startServer(t, testConfig(), submitter)
	stream := openStream(t, deadline(t), s)
	var held []*ingest.Submission
	for i := range 3 {
		require.NoError(t, stream.Send(request(uint64(i), i+1)))
		submission := <-submitter.held
		require.True(t, submission.Block)
		held = append(held, submission)
	}
	for _, i := range []int{2, 0, 1} {
		submitter.complete(held[i])
		require.Equal(t, uint32(i+1), requireAck(t, stream, uint64(i)).GetRecordCount())
	}
}

func TestStreamSendsAllAnswersAfterHalfClose(t *testing.T) {
	config := testConfig()
	submitter := &fakeSubmitter{held: make(chan *ingest.Submission, config.Window)}
	s := startServer(t, config, submitter)
	stream := openStream(t, deadline(t), s)
	for i := range config.Window {
		require.NoError(t, stream.Send(request(uint64(i), 1)))
	}
	require.NoError(t, stream.CloseSend())
	for i := range config.Window {
		submitter.complete(<-submitter.held)
		requireAck(t, stream, uint64(i))
	}
	_, err := stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// TestStreamsUnderLoad has several streams whose batches complete in random order, a part of them refused. Every batch is
// answered once, with its own outcome, and no stream ever has more than Window batches unanswered.
func TestStreamsUnderLoad(t *testing.T) {
	const streams, batches = 4, 300
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	config := testConfig()
	submitter := &fakeSubmitter{held: make(chan *ingest.Submission, streams*config.Window)}
	s := startServer(t, config, submitter)

	var clients, completer sync.WaitGroup
	stop := make(chan struct{})
	completer.Go(func() { completeAtRandom(t, submitter, rand.New(rand.NewPCG(seed, 0)), streams*config.Window, stop) })
	for range streams {
		stream := openStream(t, deadline(t), s)
		clients.Go(func() {
			for i := range batches {
				m := request(uint64(i), 1+i%7)
				if i%5 == 0 {
					m.EndpointId = "secrets"
				}
				if err := stream.Send(m); err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		clients.Go(func() { requireEveryAnswer(t, stream, batches) })
	}
	clients.Wait()
	close(stop)
	completer.Wait()
	require.Equal(t, streams*batches*4/5, submitter.accepted())
}

// completeAtRandom completes what is held, always one of those at hand at random, and checks that there are at most limit.
func completeAtRandom(t *testing.T, submitter *fakeSubmitter, r *rand.Rand, limit int, stop chan struct{}) {
	var held []*ingest.Submission
	for {
		if len(held) == 0 {
			select {
			case submission := <-submitter.held:
				held = append(held, submission)
			case <-stop:
				return
			}
		}
		for more := true; more; {
			select {
			case submission := <-submitter.held:
				held = append(held, submission)
			default:
				more = false
			}
		}
		if len(held) > limit {
			t.Errorf("%d batches are unanswered, the limit is %d", len(held), limit)
		}
		i := r.IntN(len(held))
		submitter.complete(held[i])
		held[i] = held[len(held)-1]
		held = held[:len(held)-1]
	}
}

func requireEveryAnswer(t *testing.T, stream storagepb.IngestionService_WriteStreamClient, batches int) {
	answered := make([]bool, batches)
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Errorf("receive: %v", err)
			return
		}
		i := int(response.GetBatchId())
		if answered[i] {
			t.Errorf("batch %d is answered twice", i)
		}
		answered[i] = true
		refused := response.GetError().GetCode() == storagepb.ErrorCode_ERROR_CODE_FORBIDDEN_ENDPOINT
		if refused != (i%5 == 0) || !refused && int(response.GetAck().GetRecordCount()) != 1+i%7 {
			t.Errorf("batch %d has the answer of another: %v", i, response)
		}
	}
	for i, ok := range answered {
		if !ok {
			t.Errorf("batch %d is not answered", i)
		}
	}
}

func TestStreamWaitsAtTheMemoryBudget(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	all, ok := s.buffers.TryGet(testBudgetBytes)
	require.True(t, ok)
	stream := openStream(t, deadline(t), s)
	require.NoError(t, stream.Send(request(1, 1)))
	<-s.buffers.Pressure() // the receiver has found no room, and waits
	require.Zero(t, s.submitter.accepted())
	all.Release()
	requireAck(t, stream, 1)
}

func TestBrokenClientEndsTheWaitingOnly(t *testing.T) {
	submitter := &fakeSubmitter{held: make(chan *ingest.Submission, 2)}
	s := startServer(t, testConfig(), submitter)
	ctx, cancel := context.WithCancel(deadline(t))
	stream := openStream(t, ctx, s)
	require.NoError(t, stream.Send(request(1, 1)))
	require.NoError(t, stream.Send(request(2, 1)))
	first, second := <-submitter.held, <-submitter.held
	cancel()
	_, err := stream.Recv()
	require.Equal(t, codes.Canceled, status.Code(err))
	s.grpc.GracefulStop() // the handler has returned although nothing was answered
	require.NoError(t, s.api.Close(), "the receiver has ended")
	submitter.complete(second)
	submitter.complete(first)
	require.Equal(t, 2, submitter.accepted())
}

func TestBrokenClientEndsTheWaitForMemory(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	all, ok := s.buffers.TryGet(testBudgetBytes)
	require.True(t, ok)
	ctx, cancel := context.WithCancel(deadline(t))
	stream := openStream(t, ctx, s)
	require.NoError(t, stream.Send(request(1, 1)))
	<-s.buffers.Pressure()
	cancel()
	s.grpc.GracefulStop()
	require.NoError(t, s.api.Close())
	require.Zero(t, s.submitter.accepted())
	all.Release()
}

func TestDrainAnswersWhatWasAccepted(t *testing.T) {
	submitter := &fakeSubmitter{held: make(chan *ingest.Submission, 1)}
	s := startServer(t, testConfig(), submitter)
	idle, busy := openStream(t, deadline(t), s), openStream(t, deadline(t), s)
	require.NoError(t, busy.Send(request(1, 1)))
	submission := <-submitter.held
	s.api.Drain()

	_, err := idle.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_UNAVAILABLE, detail(t, err).GetCode())

	// What comes too late is refused, not lost without a word.
	require.NoError(t, busy.Send(request(2, 1)))
	response, err := busy.Recv()
	require.NoError(t, err)
	require.Equal(t, uint64(2), response.GetBatchId())
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_UNAVAILABLE, response.GetError().GetCode())

	submitter.complete(submission)
	requireAck(t, busy, 1)
	_, err = busy.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
	s.grpc.GracefulStop() // no stream keeps it
	require.Equal(t, 1, submitter.accepted())
}

// TestTruncatedStream speaks HTTP/2 by hand: a whole batch, then one whose frame ends too early.
func TestTruncatedStream(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	whole := marshal(t, request(1, 3))
	for name, tail := range map[string][]byte{
		"within the prefix":  {0, 0, 0},
		"behind the prefix":  frame(whole)[:5],
		"within the message": frame(whole)[:len(whole)],
	} {
		t.Run(name, func(t *testing.T) {
			before := s.submitter.accepted()
			body, writer := io.Pipe()
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetUnencryptedHTTP2(true)
			defer transport.CloseIdleConnections()
			call, err := http.NewRequestWithContext(deadline(t), http.MethodPost,
				"http://"+s.address+storagepb.IngestionService_WriteStream_FullMethodName, body)
			require.NoError(t, err)
			call.Header.Set("Content-Type", "application/grpc")
			call.Header.Set("Te", "trailers")
			answered := make(chan struct{})
			var sending sync.WaitGroup
			sending.Go(func() {
				_, _ = writer.Write(frame(whole))
				<-answered
				_, _ = writer.Write(tail)
				_ = writer.Close()
			})
			defer sending.Wait()
			release := sync.OnceFunc(func() { close(answered) })
			defer release()
			response, err := transport.RoundTrip(call)
			require.NoError(t, err)
			answer := readFrame(t, response.Body)
			release()
			_, err = io.Copy(io.Discard, response.Body) // up to the trailers
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, uint64(1), answer.GetBatchId())
			require.Equal(t, uint32(3), answer.GetAck().GetRecordCount())
			require.NotEqual(t, "0", response.Trailer.Get("Grpc-Status"))
			require.Equal(t, before+1, s.submitter.accepted(), "the truncated batch leaves nothing behind")
		})
	}
}

// frame returns a message as gRPC sends it: a flag, a length, the bytes.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func readFrame(t *testing.T, r io.Reader) *storagepb.WriteBatchResponse {
	t.Helper()
	prefix := make([]byte, 5)
	_, err := io.ReadFull(r, prefix)
	require.NoError(t, err)
	message := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	_, err = io.ReadFull(r, message)
	require.NoError(t, err)
	answer := new(storagepb.WriteBatchResponse)
	require.NoError(t, proto.Unmarshal(message, answer))
	return answer
}
