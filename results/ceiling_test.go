package results

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCeilingMetrics(t *testing.T) {
	latency := func(p50, p99 int64) Histogram { return Histogram{Count: 1, P50Nanos: p50, P99Nanos: p99} }
	metrics := map[string]float64{"acked_records_per_second": 4e6, "response_p50_ns": 300, "recovery_ready_ns": 4e9}
	AddCeilingMetrics(metrics, []Ceiling{
		{Kind: NullSink, RecordsPerSecond: 8e6, Response: latency(10, 20)},
		{Kind: EmptyHandler, RecordsPerSecond: 16e6, Response: latency(50, 60)},
		{Kind: RawDisk, Mode: "direct", RecordsPerSecond: 5e6, Response: latency(100, 200)},
		{Kind: RawDisk, Mode: "page cache", RecordsPerSecond: 2e6, Response: latency(700, 800)},
		{Kind: SinglePair, RecordsPerSecond: 4e6, Response: latency(1, 2)},
		{Kind: ReadLog, ReadBytes: 8e9, DurationNanos: 2e9},
	}, 2e6)
	require.Equal(t, map[string]float64{
		"acked_records_per_second": 4e6, "response_p50_ns": 300, "recovery_ready_ns": 4e9,
		"read_log_bytes_per_second": 4e9, "replay_bytes_per_second": 2e9, "replay_ratio": 0.5,
		"null_sink_records_per_second": 8e6, "null_sink_ratio": 0.5, "null_sink_offered_ratio": 0.25,
		"null_sink_response_p50_ns": 10, "null_sink_response_p99_ns": 20,
		"empty_handler_records_per_second": 16e6, "empty_handler_ratio": 0.25,
		"empty_handler_response_p50_ns": 50, "empty_handler_response_p99_ns": 60,
		"raw_disk_records_per_second": 5e6, "raw_disk_ratio": 0.8, "raw_disk_p50_ns": 100, "raw_disk_p99_ns": 200,
		"single_pair_records_per_second": 4e6, "single_pair_ratio": 1, "single_pair_response_p50_ns": 1, "single_pair_response_p99_ns": 2,
		"idle_ack_ratio": 2,
	}, metrics)
	for name := range metrics {
		_, known := LookUp(name)
		require.True(t, known, name)
	}
}

func TestGrowthComparesQuartersAndNotSawTeeth(t *testing.T) {
	saw := func(n int, rss func(i int) int64) map[string]float64 {
		var samples []Sample
		for i := range n {
			samples = append(samples, Sample{ServerRSSBytes: rss(i), BacklogRecords: int64(100 - 20*(i%4))})
		}
		metrics := map[string]float64{}
		AddGrowthMetrics(metrics, samples)
		return metrics
	}
	flat := saw(40, func(i int) int64 { return int64(min(i, 10)) * 10 })
	require.Equal(t, map[string]float64{"rss_growth_ratio": 1, "backlog_growth_ratio": 1}, flat, "what fills at the start does not count")
	growing := saw(40, func(i int) int64 { return int64(100 + 10*i) })
	require.InDelta(t, 490.0/290, growing["rss_growth_ratio"], 1e-9)
	require.Empty(t, saw(growthSamples-1, func(int) int64 { return 1 }), "too short to tell")
	require.NotContains(t, saw(40, func(int) int64 { return 0 }), "rss_growth_ratio", "nothing is known of it")
}

func TestTargetsTable(t *testing.T) {
	result := sampleResult(t, 1)
	result.Scenarios[0].Repetitions[0].Metrics["acked_records_per_second"] = 1e6
	var text bytes.Buffer
	require.NoError(t, WriteTargets(&text, result))
	lines := strings.Split(text.String(), "\n")
	require.Regexp(t, `^FIGURE +TARGET +MEASURED +CEILING +STATE +FOR COMPARISON \(MEASURED ELSEWHERE\)$`, lines[0])
	require.Regexp(t, `^rate \| of ingest-1m +>= 1\.00M records/s +1\.09M records/s \(1\.00M to 1\.09M\) +`+
		`0\.55 of null sink, 0\.22 of raw disk +PASS +others: 0\.5M$`, lines[1])
	require.Contains(t, text.String(), "measured elsewhere")

	var markdown bytes.Buffer
	require.NoError(t, WriteMarkdown(&markdown, result))
	require.Contains(t, markdown.String(), `| rate \| of smoke | >= 1.00M records/s | 1.09M records/s | 0.55 of null sink, 0.22 of raw disk | **PASS** | others: 0.5M |`)

	for i := range result.Scenarios {
		for j := range result.Scenarios[i].Objectives {
			result.Scenarios[i].Objectives[j].Target = ""
		}
	}
	text.Reset()
	require.NoError(t, WriteTargets(&text, result))
	require.Empty(t, text.String(), "no targets, no table")
}

func TestTargetsSayWhatARatioIsOfAndWhatIsNotValid(t *testing.T) {
	scenario := sampleScenario(t, "s", 2, 1)
	scenario.Objectives = []Objective{
		{Metric: "null_sink_ratio", Unit: "ratio", Op: ">=", Limit: 0.6, Target: "of the null sink"},
		{Metric: "response_p99_ns", Unit: "ns", Op: "<", Limit: 3e6, Target: "ack"},
		{Metric: "idle_ack_ratio", Unit: "ratio", Op: "<=", Limit: 1.5, Target: "one caller"},
	}
	for i := range scenario.Repetitions {
		scenario.Repetitions[i].Invalid = []string{"steal"}
	}
	JudgeScenario(&scenario)
	rows := (&Result{Scenarios: []Scenario{scenario}}).targets()
	require.Equal(t, "null sink 2.00M records/s", rows[0].Ceiling)
	require.Equal(t, "0.545, not valid", rows[0].Measured)
	require.Equal(t, Inconclusive, rows[0].State)
	require.Empty(t, rows[1].Ceiling)
	require.Equal(t, "none", rows[2].Measured)
}
