package results

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchfmt"
)

// TestBenchstatTextIsReadByItsOwnReader: benchstat's reader finds each valid repetition, with units that it scales.
func TestBenchstatTextIsReadByItsOwnReader(t *testing.T) {
	result := sampleResult(t, 1)
	result.Scenarios[0].Repetitions[5].Invalid = []string{"steal"}
	var text bytes.Buffer
	require.NoError(t, WriteBenchstat(&text, result))
	reader := benchfmt.NewReader(&text, "run")
	names, units := map[string]int{}, 0
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			require.Fail(t, "syntax", record.Error())
		case *benchfmt.UnitMetadata:
			units++
		case *benchfmt.Result:
			names[record.Name.String()]++
			require.Equal(t, "ext4", record.GetConfig("filesystem"))
			require.Equal(t, "98000", record.GetConfig("fdatasync-p50-ns"))
			value, ok := record.Value("commit_p99-sec")
			require.True(t, ok, "%v", record.Values)
			require.InDelta(t, 600e-6, value, 1e-6)
			_, ok = record.Value("acked_records_per_second")
			require.True(t, ok)
		}
	}
	require.NoError(t, reader.Err())
	require.Equal(t, map[string]int{"Ingest1m/ack=wal_synced": 5, "Smoke/ack=wal_synced": 1}, names)
	require.Positive(t, units)
}

// TestHistogramLogsComeBackWhole: what the format's reader reads is what was stored.
func TestHistogramLogsComeBackWhole(t *testing.T) {
	result := sampleResult(t, 1)
	files, err := result.SaveHistogramLogs(t.TempDir())
	require.NoError(t, err)
	require.Len(t, files, 2, "the skipped scenario has none")
	require.Equal(t, "ingest-1m.hlog", filepath.Base(files[0]))
	file, err := os.Open(files[0])
	require.NoError(t, err)
	defer file.Close()
	reader := hdrhistogram.NewHistogramLogReader(file)
	counts := map[string]int64{}
	first := int64(0)
	for {
		histogram, err := reader.NextIntervalHistogram()
		if errors.Is(err, io.EOF) || histogram == nil {
			break
		}
		require.NoError(t, err)
		if len(counts) == 0 {
			first = histogram.StartTimeMs()
		}
		counts[histogram.Tag()] += histogram.TotalCount()
	}
	require.Equal(t, map[string]int64{"client_response": 120_000, "server_commit": 120_000}, counts)
	require.InDelta(t, result.StartedAt.UnixMilli(), first, 1000)
}

func TestTrendFindsTheChangeWhereItIs(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	run := func(day int, median float64, edit func(*Result)) *Result {
		scenario := Scenario{Name: "s", AckLevel: "wal_synced", Client: "c", Objectives: []Objective{{Metric: "commit_p99_ns"}}}
		for range 4 {
			scenario.Repetitions = append(scenario.Repetitions, Repetition{Metrics: map[string]float64{"commit_p99_ns": median * math.Exp(0.03*random.NormFloat64())}})
		}
		result := &Result{StartedAt: time.Date(2026, 5, day, 0, 0, 0, 0, time.UTC), Env: Environment{Cores: 2, Commit: "c" + string(rune('0'+day))}, Scenarios: []Scenario{scenario}}
		if edit != nil {
			edit(result)
		}
		return result
	}
	other := func(r *Result) { r.Env.Cores = 64 }
	runs := []*Result{
		run(6, 1.3e6, nil), run(1, 1e6, nil), run(2, 1e6, nil), run(3, 1e6, nil), run(4, 1e6, nil), run(5, 1.3e6, nil), run(7, 1.3e6, nil), run(8, 0.9e6, nil), run(9, 0.9e6, nil),
		run(4, 5e6, other),
	}
	trends := Trends(runs, DefaultMarginPct)
	require.Len(t, trends, 2, "another machine is another trend")
	var long Trend
	for _, trend := range trends {
		if len(trend.Points) > 1 {
			long = trend
		}
	}
	require.Len(t, long.Points, 9)
	changes := map[string]bool{}
	for _, p := range long.Points {
		if p.Change != nil {
			changes[p.Commit] = p.Change.Better
		}
	}
	require.Equal(t, map[string]bool{"c5": false, "c8": true}, changes)
	var text bytes.Buffer
	require.NoError(t, WriteTrends(&text, trends, true))
	require.Regexp(t, `2026-05-05 00:00 +c5 .*<- \+\d+\.\d%, worse`, text.String())
	require.Contains(t, text.String(), "1 of 2 trends shown")
}

// TestTrendOfNoiseHasNoChange: of 200 trends of ten runs, all of one population, at most one in twenty may have a change point; 22 leaves
// four standard deviations.
func TestTrendOfNoiseHasNoChange(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 9))
	found := 0
	for range 200 {
		trend := Trend{Metric: "commit_p99_ns"}
		for range 10 {
			values := []float64{random.ExpFloat64(), random.ExpFloat64(), random.ExpFloat64()}
			trend.Points = append(trend.Points, TrendPoint{values: values})
		}
		trend.findChanges(0, len(trend.Points), 0)
		for _, p := range trend.Points {
			if p.Change != nil {
				found++
				break
			}
		}
	}
	require.LessOrEqual(t, found, 22)
}
