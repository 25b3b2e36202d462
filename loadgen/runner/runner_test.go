package runner

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/loadgen/verify"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

func pointer[T any](value T) *T { return &value }

func TestInvalidity(t *testing.T) {
	rules := scenarios.Validity{
		MaxScheduleLagP99: pointer(5 * time.Millisecond), MaxStealPct: pointer(5.0), MaxOtherCPUPct: pointer(10.0), MinAchievedRatio: pointer(0.98),
		MaxClientCPUPct: pointer(60.0), ServerHeadroomCPUPct: 50,
	}
	good := map[string]float64{
		"schedule_lag_p99_ns": 4e6, "steal_pct": 1, "achieved_ratio": 0.99, "client_cpu_pct": 30, "server_cpu_pct": 20, "ack_p99_ns": 3e6,
		"throttled_pct": 0, "thermal_events": 0,
	}
	rules.MaxOfferedRatio, rules.MaxThrottledPct, rules.MaxThermalEvents = pointer(0.5), pointer(1.0), pointer(0.0)
	server := absorbed{window: 10 * time.Millisecond, measured: 8 * time.Second}
	tests := []struct {
		name    string
		change  map[string]float64
		stalled time.Duration
		want    []string
	}{
		{"good", nil, 0, nil},
		{"throttled", map[string]float64{"throttled_pct": 3}, 0, []string{"limits of the control group withheld 3.0% of the CPU, more than 1.0%"}},
		{"hot", map[string]float64{"thermal_events": 2}, 0, []string{"cores slowed down because of heat: 2 events, more than 0 events"}},
		{"steal", map[string]float64{"steal_pct": 9}, 0, []string{"the host took away 9.0% of the CPU, more than 5.0%"}},
		{"others", map[string]float64{"other_cpu_pct": 40}, 0, []string{"other processes used 40.0% of the machine, more than 10.0%"}},
		{"client", map[string]float64{"client_cpu_pct": 80}, 0, []string{"the load generator used 80.0% of the machine, more than 60.0%"}},
		{"offered", map[string]float64{"null_sink_offered_ratio": 0.8}, 0,
			[]string{"the offered load is 0.800 of what this machine carries without a log, more than 0.500"}},
		{"lag", map[string]float64{"schedule_lag_p99_ns": 9e6}, 0, []string{"the load generator was late by 9 ms at the 99th percentile, more than 5 ms, through no fault of the server"}},
		{"lag of a busy server", map[string]float64{"schedule_lag_p99_ns": 9e6, "server_cpu_pct": 60}, 0, nil},
		{"achieved", map[string]float64{"achieved_ratio": 0.5}, 0, []string{"only 0.500 of the offered load was acked, less than 0.980, through no fault of the server"}},
		{"lag of a slow server", map[string]float64{"schedule_lag_p99_ns": 9e6, "ack_p99_ns": 11e6}, 0, nil},
		{"lag that a stall of the server explains", map[string]float64{"schedule_lag_p99_ns": 900e6}, time.Second, nil},
		{"lag that it does not explain", map[string]float64{"schedule_lag_p99_ns": 2e9}, time.Second,
			[]string{"the load generator was late by 2.00 s at the 99th percentile, more than 5 ms, through no fault of the server"}},
		{"loss that a stall explains", map[string]float64{"achieved_ratio": 0.9}, time.Second, nil},
		{"loss that it does not explain", map[string]float64{"achieved_ratio": 0.8}, time.Second,
			[]string{"only 0.800 of the offered load was acked, less than 0.980, through no fault of the server"}},
		{"achieved by a busy server", map[string]float64{"achieved_ratio": 0.5, "server_cpu_pct": 60}, 0, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			metrics := map[string]float64{}
			for _, source := range []map[string]float64{good, test.change} {
				for name, value := range source {
					metrics[name] = value
				}
			}
			server.stalled = test.stalled
			require.Equal(t, test.want, broken(checkValidity(rules, metrics, server)))
			require.Len(t, checkValidity(rules, metrics, server), 8, "every rule is on record, broken or not")
			require.Empty(t, checkValidity(scenarios.Validity{}, metrics, server), "no rules, no objection")
		})
	}
	delete(good, "achieved_ratio")
	require.Empty(t, broken(checkValidity(rules, good, server)), "a closed loop has no ratio")
}

// TestStallTimeCountsAStallOnce: eight batches in flight wait for the same second.
func TestStallTimeCountsAStallOnce(t *testing.T) {
	acks := hdrhistogram.New(1, int64(time.Minute), 3)
	require.NoError(t, acks.RecordValues(int64(time.Millisecond), 10_000))
	require.NoError(t, acks.RecordValues(int64(time.Second), 8))
	found := newAbsorbed(acks, 5*time.Millisecond, 8*time.Second, 8)
	require.InDelta(t, float64(time.Second), float64(found.stalled), float64(time.Millisecond), "three digits")
	require.Zero(t, newAbsorbed(nil, time.Second, time.Second, 4).stalled)
}

func TestWithDSNKeepsTheScenariosConfig(t *testing.T) {
	config := map[string]any{"wal": map[string]any{"direct_io": "on"}, "timescale": map[string]any{"connections": 2}}
	got := withDSN(config, "postgres://x")
	require.Equal(t, map[string]any{
		"wal": map[string]any{"direct_io": "on"}, "timescale": map[string]any{"connections": 2, "dsn": "postgres://x"},
	}, got)
	require.Equal(t, map[string]any{"connections": 2}, config["timescale"], "the scenario is used again")
}

func TestDisturbedCeilings(t *testing.T) {
	ceilings := []results.Ceiling{{Kind: results.NullSink, StealPct: 4}, {Kind: results.RawDisk, StealPct: 7}}
	require.Equal(t, []string{"the host took away 7.0% of the CPU while the ceiling raw_disk was taken, more than 5.0%"},
		disturbed(scenarios.Validity{MaxStealPct: pointer(5.0)}, ceilings))
	require.Empty(t, disturbed(scenarios.Validity{}, ceilings))
}

func TestFlushingLiftsThePauseAlone(t *testing.T) {
	config := map[string]any{"wal": map[string]any{"direct_io": "on"}, "processor": map[string]any{"paused": true, "other": 1}}
	require.Equal(t, map[string]any{"wal": map[string]any{"direct_io": "on"}, "processor": map[string]any{"other": 1}}, flushing(config))
	require.Equal(t, map[string]any{"paused": true, "other": 1}, config["processor"], "the scenario is used again")
	require.Empty(t, flushing(nil))
}

func TestMeasuredSamplesLieWhollyAfterTheWarmUp(t *testing.T) {
	s := sampler{}
	for second := range 6 {
		s.timeline = append(s.timeline, results.Sample{ElapsedNanos: int64(second+1) * int64(time.Second)})
	}
	require.Len(t, s.measured(0), 6)
	require.Equal(t, int64(3*time.Second), s.measured(2 * time.Second)[0].ElapsedNanos)
	require.Equal(t, int64(4*time.Second), s.measured(2500 * time.Millisecond)[0].ElapsedNanos)
	require.Empty(t, s.measured(time.Minute))
}

func TestFromReportsCountsAnAckOnceAndFaultsEverywhere(t *testing.T) {
	got := fromReports(
		&verify.Report{Source: "parquet", Acked: 10, Rows: 9, Missing: 1, Examples: []verify.Example{{Fault: "missing", EventID: "e"}}},
		&verify.Report{Source: "postgres", Acked: 10, Rows: 11, Duplicate: 1, OutOfOrder: 2},
	)
	require.True(t, got.Checked)
	require.EqualValues(t, 10, got.Acked)
	require.EqualValues(t, 1, got.Missing)
	require.EqualValues(t, 1, got.Duplicate)
	require.EqualValues(t, 2, got.OutOfOrder)
	require.EqualValues(t, 20, got.rows)
	require.Len(t, got.Examples, 1)
	require.Contains(t, got.Examples[0], "missing in parquet")
}

func TestCatchUpFlushesWhileThatBringsSomethingBack(t *testing.T) {
	missing := func(n int64) verification { return verification{Verify: results.Verify{Checked: true, Missing: n}} }
	tests := []struct {
		name    string
		found   []int64 // by each verification; the first is that of the drain
		want    int64
		flushes int
	}{
		{"nothing missing", []int64{0}, 0, 0},
		{"left in the log", []int64{900, 300, 0}, 0, 2},
		{"lost", []int64{5, 5}, 5, 1},
		{"some left in the log, some lost", []int64{900, 7, 7}, 7, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			flushes := 0
			got, err := catchUp(missing(test.found[0]),
				func() error { flushes++; return nil },
				func() (verification, error) { return missing(test.found[flushes]), nil })
			require.NoError(t, err)
			require.Equal(t, test.want, got.Missing)
			require.Equal(t, test.flushes, flushes)
		})
	}
	_, err := catchUp(missing(1), func() error { return errors.New("disk gone") }, nil)
	require.ErrorContains(t, err, "disk gone")
}

func TestMeasureTurnsCountsIntoMetrics(t *testing.T) {
	h := hdrhistogram.New(1, int64(time.Minute), 3)
	require.NoError(t, h.RecordValue(1000))
	scenario := &scenarios.Scenario{Load: scenarios.Load{Phases: []scenarios.Phase{{Duration: 2 * time.Second, RecordsPerSecond: 200}}}}
	a := &attempt{
		scenario: scenario, index: 1, steal: 2.5, busy: 3 * time.Second, drain: time.Second, recovery: 3 * time.Second,
		exit: serverproc.ExitStatus{Code: 0}, sampler: &sampler{cpu: time.Second},
		load: &engine.Result{Elapsed: 2 * time.Second, Measured: engine.PhaseResult{
			Duration: 2 * time.Second, AckedWithin: engine.Counts{Records: 300}, AckedRecordsPerSecond: 150,
			Refused: map[string]engine.Counts{"OVERLOADED": {Batches: 2}}, Unknown: engine.Counts{Batches: 1}, Response: h,
		}},
		stages: map[string]*hdrhistogram.Histogram{"commit": h, "decode": hdrhistogram.New(1, 10, 1)},
	}
	repetition, err := a.measure(verification{Verify: results.Verify{Checked: true, Missing: 4}, rows: 300})
	require.NoError(t, err)
	for name, want := range map[string]float64{
		"acked_records_per_second": 150, "achieved_ratio": 0.75, "failed_batches": 3, "missing_records": 4, "verified_records": 300,
		"recovery_ready_ns": 3e9, "drain_ns": 1e9, "server_exit_code": 0, "commit_p99_ns": 1000, "response_max_ns": 1000, "steal_pct": 2.5,
		"other_cpu_pct": 100 * 2.0 / (2 * float64(runtime.NumCPU())),
	} {
		require.Contains(t, repetition.Metrics, name)
		require.Equal(t, want, repetition.Metrics[name], name)
	}
	require.NotContains(t, repetition.Metrics, "decode_p99_ns", "an empty histogram has no quantiles")
	require.Equal(t, map[string]int64{"OVERLOADED": 2, "no answer": 1}, repetition.Errors)
	for name := range repetition.Metrics {
		_, known := results.LookUp(name)
		require.True(t, known, "%s is not in the catalogue", name)
	}
}

func TestWithoutADatabaseAScenarioIsSkippedInTheDefaultSetAlone(t *testing.T) {
	for _, test := range []struct {
		skip     bool
		state    results.State
		exitCode int
	}{{true, results.Skipped, results.ExitPass}, {false, results.Inconclusive, results.ExitInconclusive}} {
		var out bytes.Buffer
		r := run{options: Options{SkipUnavailable: test.skip, Console: NewConsole(&out, false, nil)}}
		outcome := results.Scenario{Name: "metrics", Objectives: []results.Objective{{Metric: "failed_batches"}}}
		r.unavailable(&outcome, "no PostgreSQL")
		require.Equal(t, test.state, outcome.State)
		require.Contains(t, out.String(), "no PostgreSQL")
		result := results.Result{Env: results.Environment{FdatasyncP50Nanos: 1}, Scenarios: []results.Scenario{{Name: "smoke", State: results.Pass}, outcome}}
		results.JudgeRun(&result, false)
		require.Equal(t, test.exitCode, result.Verdict.ExitCode)
	}
}

func TestConsole(t *testing.T) {
	scenario := &scenarios.Scenario{Name: "s", Repetitions: 2, Load: scenarios.Load{Phases: []scenarios.Phase{{Duration: 10 * time.Second}}}}
	show := func(terminal bool) string {
		var out bytes.Buffer
		console := NewConsole(&out, terminal, []*scenarios.Scenario{scenario})
		clock := time.Unix(0, 0)
		console.now = func() time.Time { return clock }
		console.begin(scenario, 0)
		for second := range 6 {
			clock = clock.Add(time.Second)
			console.tick(engine.Progress{Elapsed: time.Duration(second+1) * time.Second, Phase: "measured", AckedRecords: 50_000, RefusedTotal: uint64(second / 4)}, 1_250_000)
		}
		console.judged(&results.Scenario{Name: "s", State: results.Fail, Reasons: []string{"slow"}})
		return out.String()
	}
	plain := show(false)
	require.NotContains(t, plain, "\x1b")
	require.Equal(t, "s 1/2: starting\ns 1/2: measured: 50.0k records/s acked, p50 0 ns, p99 0 ns, 0 in flight, backlog 1.25M records, 1 batches refused, 15s of load left\ns                  FAIL: slow\n", plain)
	var out bytes.Buffer
	load := NewConsole(&out, true, nil)
	load.Expect(10 * time.Second)
	load.Tick(engine.Progress{Elapsed: 4 * time.Second, Phase: "measured"})
	require.Contains(t, out.String(), "0 in flight, 6s of load left", "a load without a run: no backlog is known")
	live := show(true)
	require.Equal(t, 7+1, bytes.Count([]byte(live), []byte("\r\x1b[K")), "start, six ticks, and the line is emptied for the verdict")
}

// TestVariantsTakeTurns: ABBA, so that a drift meets all alike.
func TestVariantsTakeTurns(t *testing.T) {
	var order []int
	for repetition := range 4 {
		for step := range 3 {
			order = append(order, turn(repetition, step, 3))
		}
	}
	require.Equal(t, []int{0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0}, order)
}
