package runner

import (
	"context"
	"hash/fnv"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// The harness measures a server whose latency is known, and must report what theory gives. Everything, the client, gRPC, and the
// server, runs in the synthetic time of testing/synctest: time passes only while all of them wait, so that only the delays that the server
// adds are measured, and no machine is too busy for the test.

// knownServer acks batches after a delay that is a function of when they come and what they are.
type knownServer struct {
	storagepb.UnimplementedIngestionServiceServer
	began time.Time
	// delay is how long an ack of a batch is held back that comes at a time since began.
	delay func(at time.Duration, r *storagepb.WriteBatchRequest) time.Duration
}

func (s *knownServer) WriteStream(stream grpc.BidiStreamingServer[storagepb.WriteBatchRequest, storagepb.WriteBatchResponse]) error {
	var answers sync.WaitGroup
	defer answers.Wait()
	var sending sync.Mutex
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil // the client has closed the stream, or is gone
		}
		answers.Go(func() {
			time.Sleep(s.delay(time.Since(s.began), r))
			sending.Lock()
			defer sending.Unlock()
			_ = stream.Send(&storagepb.WriteBatchResponse{BatchId: r.GetBatchId(), Outcome: &storagepb.WriteBatchResponse_Ack{
				Ack: &storagepb.Ack{Level: r.GetAckLevel(), FirstLsn: 1, RecordCount: uint32(len(r.GetRecords()))},
			}})
		})
	}
}

// loadKnownServer puts a load on a server with that delay, in synthetic time, and returns what the engine measured.
func loadKnownServer(t *testing.T, c engine.Config, delay func(time.Duration, *storagepb.WriteBatchRequest) time.Duration) *engine.Result {
	t.Helper()
	var result *engine.Result
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(1 << 20)
		server := grpc.NewServer()
		storagepb.RegisterIngestionServiceServer(server, &knownServer{began: time.Now(), delay: delay})
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(listener) })
		c.Target, c.CoarseTimers, c.Layout, c.BatchRecords = "known", true, engine.Rows, 1
		c.Tenants, c.Endpoints = []engine.Tenant{{ID: "acme"}}, []string{"orders"}
		c.AckLevel = storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED
		c.Dialer = func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
		var err error
		result, err = engine.Run(t.Context(), c)
		server.Stop()
		serving.Wait()
		require.NoError(t, err)
	})
	require.Equal(t, result.Measured.Due, result.Measured.Acked, "all that was due was acked")
	return result
}

const (
	// histogramDigits is the relative precision of the histograms: three digits.
	histogramDigits = 1e-3
	// lowestNanos is what the engine's histograms tell apart from nothing.
	lowestNanos = int64(100)
)

// TestAKnownStallIsReportedAsTheoryGivesIt: 200 batches fall due each second for 20 seconds, and the server stands still from the 5th to the
// 6th. What falls due at u within the stall waits for 6 s - u, and nothing else waits: of 4,000 response times 200 are 1,000 ms,
// 995 ms, …, 5 ms, the rest nothing. That holds whether the client may have all of them unanswered or only one, in which case 199 are
// sent after the stall, and their service time hides it.
func TestAKnownStallIsReportedAsTheoryGivesIt(t *testing.T) {
	const (
		rate          = 200
		length        = 20 * time.Second
		begin, end    = 5 * time.Second, 6 * time.Second
		batches       = rate * int(length/time.Second)
		gap           = time.Second / rate
		stalledAtMost = end - begin
	)
	var theory []time.Duration
	for i := range batches {
		due := time.Duration(i) * gap
		wait := time.Duration(0)
		if due >= begin && due < end {
			wait = end - due
		}
		theory = append(theory, wait)
	}
	slices.Sort(theory)
	quantile := func(perMille int) time.Duration { return theory[(perMille*batches+999)/1000-1] }
	require.Equal(t, 800*time.Millisecond, quantile(990), "40 are above it: 1,000 - 40 x 5")
	require.Equal(t, 980*time.Millisecond, quantile(999), "4 are above it")

	for _, c := range []struct {
		name              string
		streams, inFlight int
	}{{"all unanswered", 4, 128}, {"one unanswered", 1, 1}} {
		t.Run(c.name, func(t *testing.T) {
			result := loadKnownServer(t, engine.Config{
				Streams: c.streams, InFlight: c.inFlight,
				Phases: []engine.Phase{{Name: "load", Duration: length, RecordsPerSecond: rate}},
			}, func(at time.Duration, _ *storagepb.WriteBatchRequest) time.Duration {
				if at >= begin && at < end {
					return end - at
				}
				return 0
			})
			m := &result.Measured
			require.EqualValues(t, batches, m.Acked.Batches)
			require.InDelta(t, rate, m.AckedRecordsPerSecond, 1e-9)
			for _, perMille := range []int{500, 900, 960, 990, 999, 1000} {
				want := float64(quantile(perMille))
				got := float64(m.Response.ValueAtPercentile(float64(perMille) / 10))
				// The histogram's percentile may fall on the next batch, 5 ms away.
				require.InDelta(t, want, got, float64(gap)+want*histogramDigits, "%d of a thousand", perMille)
			}
			require.InDelta(t, float64(stalledAtMost), float64(m.Response.Max()), float64(stalledAtMost)*histogramDigits)
			sum := m.Response.Mean() * float64(batches)
			require.InEpsilon(t, 200*201/2*float64(gap), sum, 2*histogramDigits, "the sum of all waits: 5 ms x (1 + 2 + … + 200)")
			if c.inFlight == 1 {
				require.LessOrEqual(t, m.Service.ValueAtPercentile(99.9), lowestNanos, "one batch alone was under way during the stall")
				require.InDelta(t, float64(quantile(990)), float64(m.Lag.ValueAtPercentile(99)), 2*float64(gap), "the others were sent late")
			} else {
				require.LessOrEqual(t, m.Lag.Max(), lowestNanos, "all were sent on time")
			}
		})
	}
}

// knownRepetition measures a server whose answers take 1 ms and an exponentially distributed time of 1 ms in the mean, times slower. The
// delays follow from the seed and the batch's sequence alone.
func knownRepetition(t *testing.T, seed uint64, slower float64) results.Repetition {
	load := scenarios.Load{
		Connections: 1, Streams: 1, InFlight: 128, BatchRecords: 1,
		Phases: []scenarios.Phase{{Name: "load", Duration: 4 * time.Second, RecordsPerSecond: 250}},
	}
	config := load.EngineConfig()
	config.Seed = seed
	config.Phases[0].Arrivals = engine.Poisson
	acks := hdrhistogram.New(1, int64(time.Minute), 3)
	var recording sync.Mutex
	result := loadKnownServer(t, config, func(_ time.Duration, r *storagepb.WriteBatchRequest) time.Duration {
		delay := time.Duration(slower * float64(time.Millisecond) * (1 - math.Log1p(-uniform(seed, r.GetSequence()))))
		recording.Lock()
		defer recording.Unlock()
		_ = acks.RecordValue(int64(delay)) // within bounds
		return delay
	})
	a := &attempt{
		scenario: &scenarios.Scenario{Name: "known", Load: load}, sampler: &sampler{}, load: result,
		stages: map[string]*hdrhistogram.Histogram{"ack": acks},
	}
	repetition, err := a.measure(verification{Verify: results.Verify{Checked: true, Acked: int64(result.Measured.Acked.Records)}})
	require.NoError(t, err)
	require.Equal(t, "wal_synced", repetition.AckLevel)
	// The client's view and the server's own differ by nothing but the histograms' precision.
	for _, quantile := range []string{"p50", "p99", "max"} {
		require.InEpsilon(t, repetition.Metrics["ack_"+quantile+"_ns"], repetition.Metrics["response_"+quantile+"_ns"], 2*histogramDigits)
	}
	return *repetition
}

// uniform hashes a seed and a number into [0, 1).
func uniform(seed, number uint64) float64 {
	h := fnv.New64a()
	for shift := range 8 {
		_, _ = h.Write([]byte{byte(seed >> (8 * shift)), byte(number >> (8 * shift))})
	}
	// FNV's low bits are its better ones.
	return float64(h.Sum64()<<11>>11) / (1 << 53)
}

// TestAKnownSlowDownIsFound: the comparison must find a server that is a quarter slower, call it worse, and give an interval that
// holds the truth; and must find nothing between a server and itself.
func TestAKnownSlowDownIsFound(t *testing.T) {
	seed := uint64(0)
	run := func(slower float64) *results.Result {
		scenario := results.Scenario{
			Name: "known", AckLevel: "wal_synced", Objectives: []results.Objective{{Metric: "response_p50_ns"}, {Metric: "response_p99_ns"}},
		}
		for i := range 6 {
			seed++
			repetition := knownRepetition(t, seed, slower)
			repetition.Index = i
			scenario.Repetitions = append(scenario.Repetitions, repetition)
		}
		return &results.Result{Scenarios: []results.Scenario{scenario}}
	}
	base, again, slow := run(1), run(1), run(1.25)
	options := results.CompareOptions{MarginPct: results.DefaultMarginPct}
	found := results.Compare([]*results.Result{base}, []*results.Result{slow}, options)
	require.Len(t, found.Changes, 2)
	for _, change := range found.Changes {
		require.Equal(t, results.Worse, change.Verdict, "%+v", change)
		require.Less(t, change.LowPct, 25.0)
		require.Greater(t, change.HighPct, 25.0)
	}
	same := results.Compare([]*results.Result{base}, []*results.Result{again}, options)
	require.False(t, same.Any(results.Worse) || same.Any(results.Better), "%+v", same.Changes)
}
