package results

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Trend is one metric of one scenario over runs on like machines, in the order of time.
type Trend struct {
	Scenario, Metric, Unit string
	// Where says which machine, load and ack level: other runs are another trend.
	Where  string
	Points []TrendPoint
}

// TrendPoint is one run.
type TrendPoint struct {
	At     time.Time
	Commit string
	CompareSide
	// Change is set where the metric changed with this run: the change in percent of the median of all runs since the change before,
	// and its corrected p-value.
	Change *TrendChange
	values []float64
}

// TrendChange is a change point.
type TrendChange struct {
	ChangePct, P float64
	Better       bool
}

// sortedKeys are a map's keys in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Trends lists the metrics of the objectives over all runs, with change points. Only runs on like machines with like loads make a trend.
func Trends(runs []*Result, marginPct float64) []Trend {
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b *Result) int { return a.StartedAt.Compare(b.StartedAt) })
	trends := make(map[string]*Trend)
	for _, run := range runs {
		for i := range run.Scenarios {
			scenario := &run.Scenarios[i]
			where := fmt.Sprintf("%s, %d cores, %s on %s; %s; %s", run.Env.CPUModel, run.Env.Cores, run.Env.FileSystem, run.Env.Device,
				scenario.AckLevel, scenario.Client)
			if scenario.OfferedRate > 0 {
				where += ", offered " + FormatValue(scenario.OfferedRate, "records/s")
			}
			for _, name := range comparedMetrics(scenario, scenario, false) {
				values := valuesOf(validRepetitions(scenario.Repetitions), name)
				if len(values) == 0 {
					continue
				}
				key := scenario.Name + "\x00" + name + "\x00" + where
				if trends[key] == nil {
					metric, _ := LookUp(name)
					trends[key] = &Trend{Scenario: scenario.Name, Metric: name, Unit: metric.Unit, Where: where}
				}
				trends[key].Points = append(trends[key].Points, TrendPoint{
					At: run.StartedAt, Commit: run.Env.commitWords(), CompareSide: compareSide(values), values: values,
				})
			}
		}
	}
	var list []Trend
	for _, key := range sortedKeys(trends) {
		trend := trends[key]
		trend.findChanges(0, len(trend.Points), marginPct)
		list = append(list, *trend)
	}
	return list
}

// findChanges looks for the clearest change between the runs from first to end, and again on both sides of it. Between any two runs the
// repetitions before are held against those after with the Mann-Whitney U test; the least p-value, times the number of places
// it was chosen from (Bonferroni), must be significant, and the medians must differ by the margin.
func (t *Trend) findChanges(first, end int, marginPct float64) {
	best, bestP := 0, 1.0
	for at := first + 1; at < end; at++ {
		if p := rankTest(t.values(first, at), t.values(at, end)); p < bestP {
			best, bestP = at, p
		}
	}
	corrected := min(1, bestP*float64(end-first-1))
	if best == 0 || corrected >= significance {
		return
	}
	before, after := summarize(t.values(first, best)).median, summarize(t.values(best, end)).median
	change := 100 * (after/before - 1)
	if math.IsNaN(change) || math.Abs(change) < marginPct {
		return
	}
	metric, _ := LookUp(t.Metric)
	t.Points[best].Change = &TrendChange{ChangePct: change, P: corrected, Better: (change > 0) == (metric.Better > 0)}
	t.findChanges(first, best, marginPct)
	t.findChanges(best, end, marginPct)
}

func (t *Trend) values(first, end int) []float64 {
	var values []float64
	for _, p := range t.Points[first:end] {
		values = append(values, p.values...)
	}
	return values
}

// WriteTrends prints trends. Where changesOnly is set, those without a change are left out.
func WriteTrends(w io.Writer, trends []Trend, changesOnly bool) error {
	shown := 0
	for _, trend := range trends {
		if changesOnly && !slices.ContainsFunc(trend.Points, func(p TrendPoint) bool { return p.Change != nil }) {
			continue
		}
		shown++
		fmt.Fprintf(w, "%s %s (%s)\n", trend.Scenario, trend.Metric, trend.Where)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		highest := slices.MaxFunc(trend.Points, func(a, b TrendPoint) int { return cmp.Compare(a.Median, b.Median) }).Median
		for _, p := range trend.Points {
			fmt.Fprintf(table, "  %s\t%s\t%s\tn %d\t%s\t%s\n", p.At.UTC().Format("2006-01-02 15:04"), p.Commit, p.words(trend.Unit), p.N,
				bar(p.Median, highest), p.Change.words())
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d of %d trends shown; change points: Mann-Whitney U test between the repetitions before and after, 5%% after Bonferroni's correction\n",
		shown, len(trends))
	return err
}

const barCells = 20

// bar draws a value as a share of the highest.
func bar(value, highest float64) string {
	if highest <= 0 {
		return ""
	}
	return strings.Repeat("#", int(math.Round(barCells*value/highest)))
}

func (c *TrendChange) words() string {
	if c == nil {
		return ""
	}
	word := Worse
	if c.Better {
		word = Better
	}
	return fmt.Sprintf("<- %+.1f%%, %s (p %s)", c.ChangePct, word, formatP(c.P))
}
