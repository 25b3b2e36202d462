package results

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func compareOne(base, contender *Result, all bool) Comparison {
	return Compare([]*Result{base}, []*Result{contender}, CompareOptions{AllMetrics: all, MarginPct: DefaultMarginPct})
}

func changeOf(t *testing.T, c Comparison, scenario, metric string) Change {
	t.Helper()
	for _, change := range c.Changes {
		if change.Scenario == scenario && change.Metric == metric {
			return change
		}
	}
	require.Fail(t, "not compared", "%s of %s", metric, scenario)
	return Change{}
}

func TestCompareFindsAChangeAndItsDirection(t *testing.T) {
	comparison := compareOne(sampleResult(t, 1), sampleResult(t, 1.5), false)
	require.Empty(t, comparison.Differences)
	require.Len(t, comparison.Changes, 4, "the objectives with a direction, for both scenarios")
	commit := changeOf(t, comparison, "ingest-1m", "commit_p99_ns")
	require.Equal(t, Worse, commit.Verdict)
	require.InDelta(t, 50, commit.ChangePct, 0.1)
	require.InDelta(t, 50, commit.LowPct, 0.1)
	require.InDelta(t, 50, commit.HighPct, 0.1)
	require.InDelta(t, 2.0/924, commit.P, 1e-12, "six against six apart: 2 of C(12,6) orders")
	require.InDelta(t, 4*2.0/924, commit.CorrectedP, 1e-12, "Holm: the first of four")
	require.Equal(t, Worse, changeOf(t, comparison, "ingest-1m", "acked_records_per_second").Verdict)
	require.Equal(t, tooFewToShow, changeOf(t, comparison, "smoke", "commit_p99_ns").Verdict, "one repetition shows nothing")
	require.Contains(t, comparison.Notes, "with 4 metrics compared it takes 5 repetitions on each side to show even the clearest change of one")

	require.Equal(t, Better, compareOne(sampleResult(t, 1.5), sampleResult(t, 1), false).Changes[0].Verdict)
}

func TestComparePoolsTheRunsOfASide(t *testing.T) {
	three := func(factor float64) *Result {
		result := sampleResult(t, factor)
		result.Scenarios[0].Repetitions = result.Scenarios[0].Repetitions[:3]
		return result
	}
	apart := compareOne(three(1), three(1.5), false)
	require.Equal(t, tooFewToShow, changeOf(t, apart, "ingest-1m", "commit_p99_ns").Verdict)
	pooled := Compare([]*Result{three(1), three(1.001)}, []*Result{three(1.5), three(1.501)}, CompareOptions{MarginPct: 2})
	commit := changeOf(t, pooled, "ingest-1m", "commit_p99_ns")
	require.Equal(t, []int{6, 6}, []int{commit.Base.N, commit.Contender.N})
	require.Equal(t, Worse, commit.Verdict)
}

func TestAChangeBelowTheMarginDoesNotCount(t *testing.T) {
	comparison := compareOne(sampleResult(t, 1), sampleResult(t, 1.01), false)
	require.Equal(t, Equivalent, changeOf(t, comparison, "ingest-1m", "commit_p99_ns").Verdict, "the whole interval is below 2 %")
	comparison = Compare([]*Result{sampleResult(t, 1)}, []*Result{sampleResult(t, 1.01)}, CompareOptions{MarginPct: 0.5})
	require.Equal(t, Worse, changeOf(t, comparison, "ingest-1m", "commit_p99_ns").Verdict)
}

func TestCompareOfEqualRuns(t *testing.T) {
	for _, change := range compareOne(sampleResult(t, 1), sampleResult(t, 1), true).Changes {
		require.NotContains(t, []string{Better, Worse, BelowMargin}, change.Verdict, change.Metric)
	}
}

// TestComparisonsOfNoiseSeldomFindAnything: of 300 comparisons of ten metrics each, all of one population, at most one in twenty may
// find any change; 30 leaves four standard deviations.
func TestComparisonsOfNoiseSeldomFindAnything(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	names := []string{"commit_p50_ns", "commit_p99_ns", "ack_p50_ns", "ack_p99_ns", "response_p50_ns", "response_p99_ns", "service_p50_ns",
		"service_p99_ns", "drain_ns", "acked_records_per_second"}
	side := func() *Result {
		scenario := Scenario{Name: "s"}
		for i := range 6 {
			repetition := Repetition{Index: i, Metrics: map[string]float64{}}
			for _, name := range names {
				repetition.Metrics[name] = math.Exp(random.NormFloat64())
			}
			scenario.Repetitions = append(scenario.Repetitions, repetition)
		}
		return &Result{Scenarios: []Scenario{scenario}}
	}
	found := 0
	for range 300 {
		if comparison := compareOne(side(), side(), true); comparison.Any(Better) || comparison.Any(Worse) {
			found++
		}
	}
	require.LessOrEqual(t, found, 30)
}

func TestCompareSaysWhatCannotBeCompared(t *testing.T) {
	base, contender := sampleResult(t, 1), sampleResult(t, 1)
	base.Scenarios[1].Repetitions[0].Invalid = []string{"steal"}
	contender.Scenarios[0].Repetitions[2].Invalid = []string{"steal"}
	notes := compareOne(base, contender, false).Notes
	require.Contains(t, notes, "smoke has no valid repetition in the base, so it cannot be compared")
	require.Contains(t, notes, "ingest-1m: 1 of 6 repetitions of the contender are not valid and were left out")
}

func TestComparisonStartsWithTheEnvironment(t *testing.T) {
	base, contender := sampleResult(t, 1), sampleResult(t, 1)
	contender.Env.Kernel, contender.Env.Commit, contender.Env.FdatasyncP50Nanos = "7.0", "another", 200_000
	contender.Scenarios[1].Name = "renamed"
	base.Scenarios[0].LoadSHA256, contender.Scenarios[0].LoadSHA256 = "aaaa", "bbbb"
	base.Scenarios[0].Server = map[string]any{"wal": map[string]any{"direct_io": "on", "spare_segments": 4}}
	contender.Scenarios[0].Server = map[string]any{"wal": map[string]any{"direct_io": "off", "spare_segments": 4}, "log": map[string]any{"level": "warn"}}
	comparison := compareOne(base, contender, false)
	require.Equal(t, []Difference{{"kernel", "6.1.0", "7.0"}, {"ingest-1m: load", "aaaa", "bbbb"}}, comparison.Differences)
	require.Equal(t, []Difference{
		{"commit", "0123456789ab", "another"}, {"ingest-1m: log.level", "default", "warn"}, {"ingest-1m: wal.direct_io", "on", "off"},
	}, comparison.Tuning)
	require.Equal(t, []Difference{{"fdatasync p50", "98.0 us", "0.20 ms"}}, comparison.Device)
	require.Equal(t, []string{"smoke (base)", "renamed (contender)"}, comparison.OnlyIn)
	var text bytes.Buffer
	require.NoError(t, WriteComparison(&text, comparison))
	require.True(t, strings.HasPrefix(text.String(), "ENVIRONMENT"), text.String())
	require.Regexp(t, `commit_p99_ns +0.60 ms +0.60 ms +\+0.0% \[-0.0 to \+0.0\] +1.000 +6\+6 +equivalent`, text.String())
}

func TestRunsOfASideMustBeAlikeToo(t *testing.T) {
	other := sampleResult(t, 1)
	other.Env.Cores = 64
	comparison := Compare([]*Result{sampleResult(t, 1), other}, []*Result{sampleResult(t, 1)}, CompareOptions{})
	require.Equal(t, []Difference{{"cores", "2, 64", "2"}}, comparison.Differences)
}
