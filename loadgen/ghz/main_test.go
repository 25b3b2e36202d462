package main

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// server takes unary batches, and stands still once, for stall.
type server struct {
	storagepb.UnimplementedIngestionServiceServer
	stall time.Duration

	once     sync.Once
	mu       sync.Mutex
	records  map[record.ID]int
	keys     map[string]int
	requests int
}

func (s *server) WriteBatch(ctx context.Context, r *storagepb.WriteBatchRequest) (*storagepb.WriteBatchResponse, error) {
	s.once.Do(func() {
		timer := time.NewTimer(s.stall)
		<-timer.C
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		for _, key := range md.Get("authorization") {
			s.keys[key]++
		}
	}
	for _, row := range r.GetRecords() {
		s.records[record.ID(row.GetEventId())]++
	}
	ack := &storagepb.Ack{Level: r.GetAckLevel(), FirstLsn: 1, RecordCount: uint32(len(r.GetRecords()))}
	return &storagepb.WriteBatchResponse{BatchId: r.GetBatchId(), Outcome: &storagepb.WriteBatchResponse_Ack{Ack: ack}}, nil
}

func (s *server) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := grpc.NewServer()
	storagepb.RegisterIngestionServiceServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	t.Cleanup(func() {
		g.Stop()
		require.NoError(t, <-served)
	})
	return listener.Addr().String()
}

// TestCallsArriveAndAStallShows: the first call holds up all others for a second, while a hundred calls a second fall due. Of two hundred
// calls at least the first ninety wait for its end, and more than two of them for nine tenths of it.
func TestCallsArriveAndAStallShows(t *testing.T) {
	s := &server{stall: time.Second, records: make(map[record.ID]int), keys: make(map[string]int)}
	o, err := parse([]string{
		"--target", s.serve(t), "--api-key", "secret", "--calls", "200", "--calls-per-second", "100",
		"--concurrency", "10", "--batch-records", "20",
	}, io.Discard)
	require.NoError(t, err)
	f, err := run(&o)
	require.NoError(t, err)
	require.Equal(t, uint64(200), f.Calls)
	require.Equal(t, map[string]int{"OK": 200}, f.ByStatus)
	require.GreaterOrEqual(t, f.P99Nanos, int64(s.stall*9/10))
	require.LessOrEqual(t, f.P50Nanos, f.P99Nanos)
	require.Equal(t, 200, s.requests)
	require.Equal(t, map[string]int{"Bearer secret": 200}, s.keys)
	require.Len(t, s.records, 200*20)
	for id, n := range s.records {
		require.Equal(t, 1, n, "%s", id)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, arguments := range [][]string{{}, {"--target", "x", "--ack-level", "MAYBE"}, {"--unknown"}} {
		_, err := parse(arguments, io.Discard)
		require.Error(t, err)
	}
}
