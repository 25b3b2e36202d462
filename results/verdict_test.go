package results

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// repetitions makes one repetition for each commit p99, in microseconds.
func repetitions(p99Micros ...float64) []Repetition {
	var list []Repetition
	for i, micros := range p99Micros {
		list = append(list, Repetition{
			Index: i, Metrics: map[string]float64{"commit_p99_ns": micros * 1000}, Verify: Verify{Checked: true, Acked: 100},
		})
	}
	return list
}

func TestJudgeScenario(t *testing.T) {
	below1ms := Objective{Metric: "commit_p99_ns", Unit: "ns", Op: "<", Limit: 1e6}
	change := func(list []Repetition, i int, edit func(*Repetition)) []Repetition {
		edit(&list[i])
		return list
	}
	invalid := func(r *Repetition) { r.Invalid = []string{"steal 9 %"} }
	tests := []struct {
		name        string
		repetitions []Repetition
		objective   Objective
		want        State
		reason      string
	}{
		{"one inside", repetitions(900), below1ms, Pass, ""},
		{"one outside", repetitions(1100), below1ms, Fail, "commit_p99_ns: 1.10 ms, must be < 1 ms"},
		{"on the limit is outside of <", repetitions(1000), below1ms, Fail, "must be < 1 ms"},
		{"two inside", repetitions(900, 950), below1ms, Pass, ""},
		{"two astride, whatever the median", repetitions(900, 1050), below1ms, Inconclusive, "lies within 0.90 ms to 1.05 ms"},
		{"three inside", repetitions(700, 800, 900), below1ms, Pass, ""},
		{"three outside", repetitions(1700, 1800, 1900), below1ms, Fail, "1.80 ms"},
		{"three astride", repetitions(700, 800, 1900), below1ms, Inconclusive, "lies within"},
		{"nine with one outlier", repetitions(700, 710, 720, 730, 740, 750, 760, 770, 1900), below1ms, Pass, ""},
		{"no repetition", nil, below1ms, Inconclusive, "no repetition was finished"},
		{"never measured", repetitions(900), Objective{Metric: "ack_p99_ns", Unit: "ns", Op: "<", Limit: 1}, Fail, "ack_p99_ns: never measured"},
		{"measured by some", change(repetitions(700, 800, 900), 1, func(r *Repetition) { delete(r.Metrics, "commit_p99_ns") }), below1ms, Inconclusive, "only 2 of 3 repetitions have a sample"},
		{"invalid alone", change(repetitions(1900), 0, invalid), below1ms, Inconclusive, "repetition 1 is not valid: steal 9 %"},
		{"the invalid one is set aside", change(repetitions(700, 1900, 800), 1, invalid), below1ms, Pass, ""},
		{"half invalid", change(repetitions(700, 700), 1, invalid), below1ms, Inconclusive, "repetition 2 is not valid"},
		{"loss outranks validity", change(repetitions(700), 0, func(r *Repetition) { invalid(r); r.Verify.Missing = 3 }), below1ms, Fail, "integrity: 3 missing"},
		{"order counts as integrity", change(repetitions(700), 0, func(r *Repetition) { r.Verify.OutOfOrder = 1 }), below1ms, Fail, "1 out of order"},
		{"server failure outranks validity", change(repetitions(700), 0, func(r *Repetition) { invalid(r); r.Failure = "the server ended by itself" }), below1ms, Fail, "ended by itself"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			scenario := Scenario{Name: "s", Objectives: []Objective{test.objective}, Repetitions: test.repetitions}
			JudgeScenario(&scenario)
			require.Equal(t, test.want, scenario.State, scenario.Reasons)
			if test.reason == "" {
				require.Empty(t, scenario.Reasons)
			} else {
				require.Contains(t, scenario.Reasons[0], test.reason)
			}
		})
	}
}

// TestAGateWithoutSamplesFails: nothing missing of nothing, and no failure where nothing was tried, prove nothing.
func TestAGateWithoutSamplesFails(t *testing.T) {
	for _, metric := range []string{"missing_records", "corrupt_records", "failed_batches"} {
		for acked, want := range map[float64]State{0: Fail, 100: Pass} {
			scenario := Scenario{
				Objectives: []Objective{{Metric: metric, Op: "==", Limit: 0}},
				Repetitions: []Repetition{{
					Metrics: map[string]float64{"acked_records": acked, metric: 0}, Verify: Verify{Checked: true, Acked: int64(acked)},
				}},
			}
			JudgeScenario(&scenario)
			require.Equal(t, want, scenario.State, "%s of %v acked records", metric, acked)
		}
	}
}

func TestARateCountsOnlyWithItsGround(t *testing.T) {
	rate := Objective{Metric: "acked_records_per_second", Unit: "records/s", Op: ">=", Limit: 100}
	tests := []struct {
		name   string
		edit   func(*Repetition)
		want   State
		reason string
	}{
		{"whole", func(*Repetition) {}, Pass, ""},
		{"no ack level", func(r *Repetition) { r.AckLevel = "" }, Inconclusive, "without an ack level"},
		{"not read back", func(r *Repetition) { r.Verify = Verify{} }, Inconclusive, "has been read back"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			repetition := Repetition{
				AckLevel: "wal_synced", Metrics: map[string]float64{"acked_records_per_second": 150}, Verify: Verify{Checked: true, Acked: 5},
			}
			test.edit(&repetition)
			scenario := Scenario{Objectives: []Objective{rate}, Repetitions: []Repetition{repetition}}
			JudgeScenario(&scenario)
			require.Equal(t, test.want, scenario.State)
			require.Contains(t, scenario.Objectives[0].Reason, test.reason)
		})
	}
	result := Result{Scenarios: []Scenario{{Name: "s", State: Pass, Verify: Verify{Checked: true, Acked: 10}}}}
	JudgeRun(&result, false)
	require.Equal(t, Inconclusive, result.Verdict.State, "the device's fdatasync was not measured")
}

func TestAScenarioMayDemandConfidence(t *testing.T) {
	for count, want := range map[int]State{5: Inconclusive, 6: Pass} {
		scenario := Scenario{
			MinConfidencePct: 95, Objectives: []Objective{{Metric: "commit_p99_ns", Unit: "ns", Op: "<", Limit: 1e6}},
			Repetitions: repetitions([]float64{700, 710, 720, 730, 740, 750}[:count]...),
		}
		JudgeScenario(&scenario)
		require.Equal(t, want, scenario.State)
		if want == Inconclusive {
			require.Contains(t, scenario.Objectives[0].Reason, "93.8% confidence (6 reach 95%); the scenario demands 95.0%, which takes 6")
		}
	}
}

// TestConfidence: 1 - 2^(1-n) for the range of n values; from six on the narrowest interval of at least 95 %.
func TestConfidence(t *testing.T) {
	for n, want := range map[int]float64{1: 0, 2: 50, 3: 75, 4: 87.5, 5: 93.75, 6: 96.875, 8: 99.21875, 9: 96.09375} {
		require.InDelta(t, want, ConfidencePct(n), 1e-9, n)
		if n > 1 {
			values := make([]float64, n)
			require.InDelta(t, want/100, summarize(values).confidence, 1e-11)
		}
	}
	require.Equal(t, 6, repetitionsFor(95))
	require.Equal(t, 8, repetitionsFor(99))
}

func TestIntegrityObjectivesLookAtTheWorstRepetition(t *testing.T) {
	scenario := Scenario{Repetitions: repetitions(700, 710, 720), Objectives: []Objective{{Metric: "missing_records", Unit: "records", Op: "==", Limit: 0}}}
	for i := range scenario.Repetitions {
		scenario.Repetitions[i].Metrics["missing_records"] = 0
		scenario.Repetitions[i].Invalid = []string{"steal"}
	}
	JudgeScenario(&scenario)
	require.Equal(t, Pass, scenario.Objectives[0].State, "valid or not, nothing is missing")
	require.Equal(t, Inconclusive, scenario.State)

	scenario.Repetitions[1].Metrics["missing_records"] = 4
	JudgeScenario(&scenario)
	require.Equal(t, Fail, scenario.Objectives[0].State)
	require.Equal(t, 4.0, *scenario.Objectives[0].Median)
}

func TestFailOutranksInconclusiveAmongObjectives(t *testing.T) {
	scenario := Scenario{Repetitions: repetitions(700, 800, 1900), Objectives: []Objective{
		{Metric: "commit_p99_ns", Unit: "ns", Op: "<", Limit: 1e6},
		{Metric: "commit_p99_ns", Unit: "ns", Op: "<", Limit: 1e5},
		{Metric: "commit_p99_ns", Unit: "ns", Op: ">", Limit: 1e6},
	}}
	JudgeScenario(&scenario)
	require.Equal(t, []State{Inconclusive, Fail, Inconclusive}, []State{scenario.Objectives[0].State, scenario.Objectives[1].State, scenario.Objectives[2].State})
	require.Equal(t, Fail, scenario.State)
}

func TestJudgeRun(t *testing.T) {
	scenario := func(state State) Scenario {
		return Scenario{Name: string(state), State: state, Verify: Verify{Checked: true, Acked: 10}}
	}
	lost := scenario(Fail)
	lost.Verify.Duplicate = 1
	tests := []struct {
		name        string
		scenarios   []Scenario
		interrupted bool
		state       State
		exit        int
	}{
		{"all pass", []Scenario{scenario(Pass), scenario(Pass)}, false, Pass, 0},
		{"skipped does not count", []Scenario{scenario(Pass), scenario(Skipped)}, false, Pass, 0},
		{"nothing but skipped", []Scenario{scenario(Skipped)}, false, Inconclusive, 96},
		{"inconclusive", []Scenario{scenario(Pass), scenario(Inconclusive)}, false, Inconclusive, 96},
		{"fail outranks inconclusive", []Scenario{scenario(Inconclusive), scenario(Fail)}, false, Fail, 99},
		{"interrupted outranks fail", []Scenario{scenario(Fail)}, true, Inconclusive, 105},
		{"loss outranks all", []Scenario{scenario(Inconclusive), lost, scenario(Pass)}, true, Fail, 95},
		{"nothing", nil, false, Inconclusive, 96},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			result := Result{Env: Environment{FdatasyncP50Nanos: 1}, Scenarios: test.scenarios}
			JudgeRun(&result, test.interrupted)
			require.Equal(t, test.state, result.Verdict.State)
			require.Equal(t, test.exit, result.Verdict.ExitCode)
			require.NotEmpty(t, result.Verdict.Sentence)
		})
	}
}

func TestVerifyAddsUp(t *testing.T) {
	sum := Verify{Checked: true, Acked: 5, Missing: 1, Examples: []string{"a"}}.Add(Verify{Checked: false, Acked: 2, OutOfOrder: 3, Examples: []string{"b"}})
	require.Equal(t, Verify{Acked: 7, Missing: 1, OutOfOrder: 3, Examples: []string{"a", "b"}}, sum)
}

func TestSummarize(t *testing.T) {
	tests := []struct {
		values            []float64
		median, low, high float64
		confidence        float64
	}{
		{[]float64{3}, 3, 3, 3, 0},
		{[]float64{4, 2}, 3, 2, 4, 0.5},
		{[]float64{3, 1, 2}, 2, 1, 3, 0.75},
		{[]float64{1, 2, 3, 4, 5, 6}, 3.5, 1, 6, 0.96875},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9}, 5, 2, 8, 0.9609375},
	}
	for _, test := range tests {
		got := summarize(test.values)
		require.Equal(t, test.median, got.median)
		require.Equal(t, []float64{test.low, test.high}, []float64{got.low, got.high})
		require.InDelta(t, test.confidence, got.confidence, 1e-9)
	}
}
