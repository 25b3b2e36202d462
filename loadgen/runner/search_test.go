package runner

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// queue is a made-up server: the latency of a queue with one server, below 10 ms up to 0.9 of its capacity.
func queue(capacity float64) prober {
	return func(_ context.Context, rate float64, step string) (results.Probe, error) {
		probe := results.Probe{OfferedRate: rate, Step: step, State: results.Pass, AckedRate: min(rate, capacity), P50Nanos: 5e5, P99Nanos: 5e8}
		if rate < capacity {
			probe.P99Nanos = int64(1e6 / (1 - rate/capacity))
		}
		if probe.P99Nanos > 1e7 {
			probe.State, probe.Reason = results.Fail, "p99 too high"
		}
		return probe, nil
	}
}

func searchWith(t *testing.T, probe prober, to float64) *searcher {
	t.Helper()
	s := &searcher{options: SearchOptions{From: 1000, To: to, PrecisionPct: 5, Probe: 1}, probe: probe}
	require.NoError(t, s.options.Validate())
	require.NoError(t, s.run(t.Context()))
	return s
}

func TestSearchFindsTheHighestRate(t *testing.T) {
	for _, capacity := range []float64{1200, 2222, 50_000, 777_777} {
		s := searchWith(t, queue(capacity), 1e7)
		want := 0.9 * capacity
		require.LessOrEqual(t, s.found.Highest, want*1.0001)
		require.GreaterOrEqual(t, s.found.Highest, want/1.05)
		require.Greater(t, s.found.Limit, want)
		require.LessOrEqual(t, s.found.Limit/s.found.Highest, 1.05)
		require.Equal(t, "p99 too high", s.found.LimitReason)
		require.Empty(t, s.found.Doubt)
		last := s.found.Probes[len(s.found.Probes)-3:]
		for _, probe := range last {
			require.Equal(t, "confirm", probe.Step)
			require.Equal(t, s.found.Highest, probe.OfferedRate)
		}
		require.LessOrEqual(t, len(s.found.Probes), 24)
	}
}

func TestSearchBelowAndAboveItsBounds(t *testing.T) {
	s := searchWith(t, queue(500), 1e6)
	require.Zero(t, s.found.Highest)
	require.Equal(t, 1000.0, s.found.Limit)
	require.Contains(t, s.found.Sentence(), "No rate held in 1 probes: p99 too high")
	s = searchWith(t, queue(1e9), 64_000)
	require.Equal(t, 64_000.0, s.found.Highest)
	require.Zero(t, s.found.Limit)
	require.Contains(t, s.found.Doubt, "upper bound")
}

// TestSearchIsNotMisledByLuck: rates between 40,000 and 50,000 hold every other time; what is confirmed holds always.
func TestSearchIsNotMisledByLuck(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		steady, always := queue(1e6), queue(1)
		s := searchWith(t, func(ctx context.Context, rate float64, step string) (results.Probe, error) {
			if rate > 50_000 || rate > 40_000 && random.IntN(2) == 0 {
				return always(ctx, rate, step)
			}
			return steady(ctx, rate, step)
		}, 1e6)
		require.Greater(t, s.found.Highest, 30_000.0, "seed %d", seed)
		require.LessOrEqual(t, s.found.Highest, 50_000.0, "seed %d", seed)
		require.LessOrEqual(t, len(s.found.Probes), maxProbes)
	}
}

func TestSearchSaysWhereTheLoadGeneratorWasTheLimit(t *testing.T) {
	steady := queue(1e9)
	s := searchWith(t, func(ctx context.Context, rate float64, step string) (results.Probe, error) {
		probe, err := steady(ctx, rate, step)
		if rate > 10_000 {
			probe.State, probe.Reason = results.Inconclusive, "the load generator was late"
		}
		return probe, err
	}, 1e6)
	require.InEpsilon(t, 10_000, s.found.Highest, 0.05)
	require.Contains(t, s.found.Doubt, "nothing can be said of the server: the load generator was late")
}

func TestSearchPassesOnErrors(t *testing.T) {
	broken := errors.New("disk gone")
	s := searcher{options: SearchOptions{From: 1, To: 2, PrecisionPct: 5, Probe: 1}, probe: func(context.Context, float64, string) (results.Probe, error) {
		return results.Probe{}, broken
	}}
	require.ErrorIs(t, s.run(t.Context()), broken)
	for _, wrong := range []SearchOptions{{}, {From: 2, To: 1, PrecisionPct: 5, Probe: 1}, {From: 1, To: 2, Probe: 1}, {From: 1, To: math.Inf(1), PrecisionPct: 5, Probe: 1}} {
		require.Error(t, wrong.Validate())
	}
}

func TestSearchAgainstTheRealServer(t *testing.T) {
	text := strings.Replace(tinyLoad, "objectives:\n", "ceilings: [null_sink]\nceiling_duration: 100ms\nobjectives:\n  - {metric: acked_records_per_second, op: \">=\", limit: 1_000_000_000}\n", 1)
	list := []*scenarios.Scenario{scenarioFrom(t, text)}
	var console bytes.Buffer
	result, err := Search(t.Context(), Options{Scenarios: list, Server: serverBinary, WorkDir: workDir(t), Console: NewConsole(&console, false, list)},
		SearchOptions{From: 2000, To: 3000, PrecisionPct: 50, Probe: 200 * time.Millisecond})
	require.NoError(t, err, console.String())
	found := result.Scenarios[0]
	require.NotNil(t, found.Search)
	// How far a busy machine gets is not asked here; the form of the result is the same.
	require.NotEmpty(t, found.Search.Probes)
	for _, probe := range found.Search.Probes {
		require.GreaterOrEqual(t, probe.OfferedRate, 2000.0)
		require.LessOrEqual(t, probe.OfferedRate, 3000.0)
	}
	if found.Search.Highest > 0 {
		require.Len(t, found.Repetitions, confirmations)
		require.Equal(t, found.Search.Highest, found.OfferedRate)
		require.Positive(t, found.Repetitions[0].Metrics["null_sink_ratio"], "confirmations take the ceilings")
		require.Equal(t, "wal_synced", found.AckLevel)
		require.Positive(t, result.Verify.Acked)
	}
}
