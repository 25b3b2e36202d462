package main

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// slowServer answers each call after the same delay, and notes how long it really took.
type slowServer struct {
	storagepb.UnimplementedIngestionServiceServer
	delay time.Duration

	mu   sync.Mutex
	held []time.Duration
}

func (s *slowServer) WriteBatch(_ context.Context, r *storagepb.WriteBatchRequest) (*storagepb.WriteBatchResponse, error) {
	begin := time.Now()
	timer := time.NewTimer(s.delay)
	<-timer.C
	ack := &storagepb.Ack{Level: r.GetAckLevel(), FirstLsn: 1, RecordCount: uint32(len(r.GetRecords()))}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, time.Since(begin))
	return &storagepb.WriteBatchResponse{BatchId: r.GetBatchId(), Outcome: &storagepb.WriteBatchResponse_Ack{Ack: ack}}, nil
}

// medianHeld returns the median of what was held since the last call of it.
func (s *slowServer) medianHeld() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.held)
	median := s.held[(len(s.held)-1)/2] // the lower one, as the clients take it
	s.held = nil
	return median
}

// TestTheNativeClientAgreesWithGhz: two clients that share no code put the same calls at the same low rate on a server that takes 100 ms.
// Both must see the server's own median, and each other's, to within half of it: transport takes far less, and a client that
// counted from the wrong moment, or thinned out its load, would be off by more.
func TestTheNativeClientAgreesWithGhz(t *testing.T) {
	const (
		delay   = 100 * time.Millisecond
		calls   = 120
		rate    = 80
		records = 20
	)
	s := &slowServer{delay: delay}
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
	target := listener.Addr().String()

	o, err := parse([]string{"--target", target, "--calls", "120", "--calls-per-second", "80", "--concurrency", "20", "--batch-records", "20"}, io.Discard)
	require.NoError(t, err)
	foreign, err := run(&o)
	require.NoError(t, err)
	require.EqualValues(t, calls, foreign.Calls)
	heldForeign := s.medianHeld()

	native, err := engine.Run(t.Context(), engine.Config{
		Target: target, Tenants: []engine.Tenant{{ID: "acme"}}, Endpoints: []string{"orders"}, Method: engine.Unary, Client: engine.Live,
		Layout: engine.Rows, Streams: 20, BatchRecords: records, AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED,
		Phases: []engine.Phase{{Name: "load", Records: calls * records, RecordsPerSecond: rate * records}},
	})
	require.NoError(t, err)
	require.EqualValues(t, calls, native.Measured.Acked.Batches)
	require.Equal(t, "wal_synced", native.Measured.AckedAt.String())
	heldNative := s.medianHeld()

	nativeP50 := time.Duration(native.Measured.Service.ValueAtPercentile(50))
	foreignP50 := time.Duration(foreign.P50Nanos)
	t.Logf("ghz p50 %v (server %v), native p50 %v (server %v)", foreignP50, heldForeign, nativeP50, heldNative)
	// Three digits of the histogram.
	require.GreaterOrEqual(t, nativeP50, heldNative*998/1000)
	require.GreaterOrEqual(t, foreignP50, heldForeign)
	require.Less(t, nativeP50-heldNative, delay/2)
	require.Less(t, foreignP50-heldForeign, delay/2)
	require.InDelta(t, float64(foreignP50-heldForeign), float64(nativeP50-heldNative), float64(delay/2))
}
