package results

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
)

// sampleResult is a judged run of two scenarios and a skipped one. factor scales latencies and divides rates.
func sampleResult(t *testing.T, factor float64) *Result {
	t.Helper()
	result := &Result{
		SchemaVersion: SchemaVersion,
		StartedAt:     time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		DurationNanos: int64(42 * time.Second),
		Command:       []string{"bin/bench", "run", "scenarios/ingest-1m.yaml"},
		Env: Environment{
			OS: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0", CPUModel: "Test CPU @ 2.50GHz", Cores: 2, MemoryBytes: 8 << 30,
			FileSystem: "ext4", Device: "/dev/vda1", GoVersion: "go1.26.0", Commit: "0123456789abcdef0123456789abcdef01234567",
			ServerVersion: "dev", FdatasyncP50Nanos: 98_000, FdatasyncP99Nanos: 412_000, StealPct: 0.4,
		},
		Scenarios: []Scenario{
			sampleScenario(t, "ingest-1m", 6, factor),
			sampleScenario(t, "smoke", 1, factor),
			{Name: "metrics-timescale", State: Skipped, Reasons: []string{"no PostgreSQL on this machine"}, Objectives: []Objective{}, Repetitions: []Repetition{}},
		},
	}
	for i := range result.Scenarios {
		JudgeScenario(&result.Scenarios[i])
	}
	JudgeRun(result, false)
	return result
}

func sampleScenario(t *testing.T, name string, repetitions int, factor float64) Scenario {
	t.Helper()
	scenario := Scenario{
		Name: name, Description: "A run made up for tests, with <angle brackets> & an ampersand.", File: "scenarios/" + name + ".yaml",
		AckLevel: "wal_synced", Client: "stream, rows, prepared, 1000 a batch", OfferedRate: 1.1e6,
		Objectives: []Objective{
			{Metric: "acked_records_per_second", Unit: "records/s", Op: ">=", Limit: 1e6, Target: "rate | of " + name, Compare: "others: 0.5M"},
			{Metric: "commit_p99_ns", Unit: "ns", Op: "<", Limit: 1e6},
			{Metric: "missing_records", Unit: "records", Op: "==", Limit: 0},
		},
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range repetitions {
		commit := histogramAround(t, 180_000*factor)
		response := histogramAround(t, 450_000*factor)
		repetition := Repetition{
			Index: i, AckLevel: "wal_synced", DurationNanos: int64(8 * time.Second), StealPct: 0.4,
			Metrics: map[string]float64{
				"acked_records_per_second": 1.09e6/factor + float64(1000*i),
				"commit_p99_ns":            600_000*factor + float64(i),
				"response_p99_ns":          2_400_000*factor + float64(i),
				"missing_records":          0,
			},
			Verify: Verify{Checked: true, Acked: 8_800_000},
			Validity: []Check{
				{Rule: "max_steal_pct", Metric: "steal_pct", Measured: true, Value: 0.4, Limit: 5},
				{Rule: "min_achieved_ratio", Metric: "achieved_ratio", Measured: true, Value: 0.5, Limit: 0.98, Excused: true},
				{Rule: "max_client_cpu_pct", Metric: "client_cpu_pct", Limit: 60},
			},
			Histograms: map[string]Histogram{"server_commit": commit, "client_response": response},
			Ceilings: []Ceiling{
				{Kind: NullSink, AckLevel: "buffered", DurationNanos: int64(time.Second), RecordsPerSecond: 2e6, Response: response},
				{Kind: RawDisk, Mode: "direct", WriteBytes: 147456, DurationNanos: int64(time.Second), RecordsPerSecond: 5e6, Response: commit},
			},
		}
		AddCeilingMetrics(repetition.Metrics, repetition.Ceilings, scenario.OfferedRate)
		for second := range 11 {
			repetition.Timeline = append(repetition.Timeline, Sample{
				ElapsedNanos: int64(second+1) * int64(time.Second), AckedRate: 1.1e6/factor + random.NormFloat64()*20_000,
				ResponseP99Nanos: int64(2_400_000 * factor * (0.8 + 0.4*random.Float64())),
				ServerCPUPct:     90 + 10*random.Float64(), ServerRSSBytes: 300 << 20, BacklogRecords: 500_000,
			})
		}
		scenario.Repetitions = append(scenario.Repetitions, repetition)
	}
	return scenario
}

// sampleHistograms keeps what histogramAround has made: encoding takes most of the time of these tests.
var sampleHistograms = map[float64]Histogram{}

func histogramAround(t *testing.T, medianNanos float64) Histogram {
	t.Helper()
	if made, ok := sampleHistograms[medianNanos]; ok {
		return made
	}
	random := rand.New(rand.NewPCG(3, 4))
	h := hdrhistogram.New(1, int64(time.Minute), 3)
	for range 20_000 {
		require.NoError(t, h.RecordValue(int64(medianNanos*(0.6+0.4*random.ExpFloat64()))))
	}
	encoded, err := NewHistogram(h)
	require.NoError(t, err)
	sampleHistograms[medianNanos] = encoded
	return encoded
}
