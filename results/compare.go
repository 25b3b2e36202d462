package results

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
)

// Difference is one property in which two environments are unlike.
type Difference struct {
	Property, Base, Contender string
}

// EnvironmentDifferences lists what differs between the machines of two runs. Commits are not among them: comparing them is
// the purpose.
func EnvironmentDifferences(base, contender Environment) []Difference {
	var differences []Difference
	add := func(property string, a, b any) {
		if a != b {
			differences = append(differences, Difference{property, fmt.Sprint(a), fmt.Sprint(b)})
		}
	}
	add("operating system", base.OS, contender.OS)
	add("kernel", base.Kernel, contender.Kernel)
	add("processor", base.CPUModel, contender.CPUModel)
	add("cores", base.Cores, contender.Cores)
	add("memory", formatBytes(float64(base.MemoryBytes)), formatBytes(float64(contender.MemoryBytes)))
	add("file system", base.FileSystem, contender.FileSystem)
	add("device", base.Device, contender.Device)
	add("Go", base.GoVersion, contender.GoVersion)
	return differences
}

// Change is the comparison of one metric of one scenario.
type Change struct {
	Scenario, Metric, Unit string
	Base, Contender        float64 // medians
	BaseN, ContenderN      int
	// ChangePct is from base to contender in percent of base; NaN where base is 0.
	ChangePct float64
	// P is the p-value of the Mann-Whitney U test.
	P float64
	// Significant tells whether P is below 5 %.
	Significant bool
	// Better is +1 where the contender is significantly better, -1 where worse, 0 where neither can be said.
	Better int
	// Notes are the test's warnings, for example that there are too few repetitions for any result.
	Notes []string
}

// Comparison is the comparison of two runs.
type Comparison struct {
	Differences []Difference
	Changes     []Change
	// OnlyIn names scenarios that one run alone has.
	OnlyIn []string
	Notes  []string
}

// Compare compares the valid repetitions of the scenarios that both runs have. Metrics are those of the objectives, or all
// where allMetrics is set. It does not refuse unlike environments; the caller decides by Comparison.Differences.
func Compare(base, contender *Result, allMetrics bool) Comparison {
	comparison := Comparison{Differences: EnvironmentDifferences(base.Env, contender.Env)}
	contenders := make(map[string]*Scenario)
	for i := range contender.Scenarios {
		contenders[contender.Scenarios[i].Name] = &contender.Scenarios[i]
	}
	notes := make(map[string]bool)
	for i := range base.Scenarios {
		a := &base.Scenarios[i]
		b, ok := contenders[a.Name]
		if !ok {
			comparison.OnlyIn = append(comparison.OnlyIn, a.Name+" (base)")
			continue
		}
		delete(contenders, a.Name)
		for which, scenario := range map[string]*Scenario{"base": a, "contender": b} {
			if len(validRepetitions(scenario.Repetitions)) == 0 {
				notes[fmt.Sprintf("%s has no valid repetition in the %s, so it cannot be compared", a.Name, which)] = true
			}
		}
		for _, metric := range comparedMetrics(a, b, allMetrics) {
			change, ok := compareMetric(a, b, metric)
			if !ok {
				continue
			}
			comparison.Changes = append(comparison.Changes, change)
			for _, note := range change.Notes {
				notes[note] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(contenders)) {
		comparison.OnlyIn = append(comparison.OnlyIn, name+" (contender)")
	}
	comparison.Notes = slices.Sorted(maps.Keys(notes))
	return comparison
}

// comparedMetrics lists names; counts that say only whether a run is correct are left to the verdict.
func comparedMetrics(a, b *Scenario, all bool) []string {
	wanted := func(name string) bool {
		return slices.ContainsFunc(slices.Concat(a.Objectives, b.Objectives), func(o Objective) bool { return o.Metric == name })
	}
	var names []string
	for _, name := range a.metricNames() {
		if metric, _ := LookUp(name); metric.Better != 0 && metric.Unit != "records" && (all || wanted(name)) {
			names = append(names, name)
		}
	}
	return names
}

func compareMetric(a, b *Scenario, name string) (Change, bool) {
	baseValues, contenderValues := valuesOf(validRepetitions(a.Repetitions), name), valuesOf(validRepetitions(b.Repetitions), name)
	if len(baseValues) == 0 || len(contenderValues) == 0 {
		return Change{}, false
	}
	metric, _ := LookUp(name)
	base := benchmath.NewSample(baseValues, &benchmath.DefaultThresholds)
	contender := benchmath.NewSample(contenderValues, &benchmath.DefaultThresholds)
	test := benchmath.AssumeNothing.Compare(base, contender)
	change := Change{
		Scenario: a.Name, Metric: name, Unit: metric.Unit,
		Base: summarize(baseValues).median, Contender: summarize(contenderValues).median,
		BaseN: len(baseValues), ContenderN: len(contenderValues), P: test.P, ChangePct: math.NaN(),
	}
	if change.Base != 0 {
		change.ChangePct = 100 * (change.Contender - change.Base) / change.Base
	}
	change.Significant = test.P < test.Alpha
	for _, warning := range test.Warnings {
		change.Notes = append(change.Notes, warning.Error())
	}
	if change.Significant && change.Contender != change.Base {
		change.Better = metric.Better
		if change.Contender < change.Base {
			change.Better = -metric.Better
		}
	}
	return change, true
}

// WriteComparison prints a comparison, differences of environment first.
func WriteComparison(w io.Writer, c Comparison) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(c.Differences) > 0 {
		fmt.Fprintln(table, "ENVIRONMENT\tBASE\tCONTENDER")
		for _, d := range c.Differences {
			fmt.Fprintf(table, "%s\t%s\t%s\n", d.Property, d.Base, d.Contender)
		}
		fmt.Fprintln(table)
	}
	fmt.Fprintln(table, "SCENARIO\tMETRIC\tBASE\tCONTENDER\tCHANGE\tP\tN\tVERDICT")
	for _, change := range c.Changes {
		pct := "n/a"
		if !math.IsNaN(change.ChangePct) {
			pct = fmt.Sprintf("%+.1f%%", change.ChangePct)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%.3f\t%d+%d\t%s\n", change.Scenario, change.Metric,
			FormatValue(change.Base, change.Unit), FormatValue(change.Contender, change.Unit), pct,
			change.P, change.BaseN, change.ContenderN, change.verdict())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, name := range c.OnlyIn {
		fmt.Fprintf(w, "only in one run: %s\n", name)
	}
	for _, note := range c.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	return nil
}

func (c Change) verdict() string {
	switch {
	case c.Better > 0:
		return "better"
	case c.Better < 0:
		return "worse"
	default:
		return "no difference shown"
	}
}
