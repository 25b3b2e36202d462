package results

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// variantRun is a run of variants whose p99 spreads by a tenth, with the given factors to the first one.
func variantRun(repetitions int, factors map[string]float64, order ...string) *Result {
	random := rand.New(rand.NewPCG(3, 4))
	result := &Result{Env: Environment{FdatasyncP50Nanos: 1}}
	for _, name := range order {
		scenario := Scenario{Name: "tune/" + name, Group: "tune", Variant: name, Objectives: []Objective{}}
		if name != VariantAgain {
			scenario.Objectives = []Objective{{Metric: "commit_p99_ns", Unit: "ns", Op: "<", Limit: 1e9}}
		}
		for i := range repetitions {
			scenario.Repetitions = append(scenario.Repetitions, Repetition{
				Index: i, Metrics: map[string]float64{"commit_p99_ns": 1e6 * factors[name] * math.Exp(0.1*random.NormFloat64())},
				Verify: Verify{Checked: true, Acked: 1},
			})
		}
		JudgeScenario(&scenario)
		result.Scenarios = append(result.Scenarios, scenario)
	}
	JudgeRun(result, false)
	return result
}

func TestVariantsAreHeldAgainstTheFirstAndItsNoise(t *testing.T) {
	factors := map[string]float64{"direct": 1, "slow": 1.6, "alike": 1.01, VariantAgain: 1}
	result := variantRun(8, factors, "direct", "slow", "alike", VariantAgain)
	require.Equal(t, Pass, result.Verdict.State, "the second measurement of the first has no objectives")
	list := result.compareVariants()
	require.Len(t, list, 1)
	require.Equal(t, "direct", list[0].Base)
	require.Len(t, list[0].Rows, 2)
	slow, alike := list[0].Rows[0], list[0].Rows[1]
	require.Equal(t, "slow", slow.Variant)
	require.Equal(t, Worse, slow.Verdict)
	require.InDelta(t, 60, slow.ChangePct, 20)
	require.Equal(t, NotShown, alike.Verdict)
	for _, row := range list[0].Rows {
		require.Greater(t, row.FloorPct, 2.0)
		require.Less(t, row.FloorPct, 30.0)
	}
	var text bytes.Buffer
	require.NoError(t, WriteVariants(&text, result))
	require.Contains(t, text.String(), "NOISE FLOOR")
	require.Regexp(t, `slow +commit_p99_ns .* worse`, text.String())
	text.Reset()
	require.NoError(t, WriteHTML(&text, result))
	requireWellFormed(t, text.Bytes())
	if dir := os.Getenv(keepReports); dir != "" {
		require.NoError(t, os.WriteFile(dir+"/variants.html", text.Bytes(), 0o644))
	}
	text.Reset()
	require.NoError(t, WriteMarkdown(&text, result))
	require.Contains(t, text.String(), "## tune: variants against direct")
}

// TestAChangeNoLargerThanTheNoiseFloorIsNone: repetitions that hardly spread, but a machine that drifted between the first variant and
// itself.
func TestAChangeNoLargerThanTheNoiseFloorIsNone(t *testing.T) {
	constant := func(name string, value float64) Scenario {
		scenario := Scenario{Name: "tune/" + name, Group: "tune", Variant: name, Objectives: []Objective{{Metric: "commit_p99_ns"}}}
		for i := range 6 {
			scenario.Repetitions = append(scenario.Repetitions, Repetition{Metrics: map[string]float64{"commit_p99_ns": value + float64(i)}})
		}
		return scenario
	}
	result := &Result{Scenarios: []Scenario{constant("a", 1e6), constant("b", 1.08e6), constant(VariantAgain, 1.1e6)}}
	row := result.compareVariants()[0].Rows[0]
	require.Less(t, row.CorrectedP, 0.05)
	require.InDelta(t, 10, row.FloorPct, 0.1)
	require.Equal(t, BelowFloor, row.Verdict)
	result.Scenarios = result.Scenarios[:2]
	require.Equal(t, Worse, result.compareVariants()[0].Rows[0].Verdict, "without the second measurement nothing is known of the floor")
}

func TestVariantsWithoutAValidRepetitionAreNamed(t *testing.T) {
	result := variantRun(2, map[string]float64{"a": 1, "b": 1, VariantAgain: 1}, "a", "b", VariantAgain)
	for i := range result.Scenarios[1].Repetitions {
		result.Scenarios[1].Repetitions[i].Invalid = []string{"steal"}
	}
	comparison := result.compareVariants()[0]
	require.Empty(t, comparison.Rows)
	require.Equal(t, []string{"b has no valid repetition, so it cannot be compared"}, comparison.Notes)
}

func TestRunsWithoutVariantsHaveNoComparison(t *testing.T) {
	require.Empty(t, sampleResult(t, 1).compareVariants())
}
