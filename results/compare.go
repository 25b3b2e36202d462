package results

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
)

// Difference is one property in which the sides of a comparison are unlike.
type Difference struct {
	Property, Base, Contender string
}

// CompareOptions say what is compared, and what counts.
type CompareOptions struct {
	// AllMetrics compares all metrics, not only those of objectives. The correction for their number then hides more.
	AllMetrics bool
	// MarginPct is the practical margin: a smaller change of the median counts as none, however sure it is.
	MarginPct float64
}

// DefaultMarginPct is the practical margin where none is given.
const DefaultMarginPct = 2

// The outcomes of one metric's comparison.
const (
	Better       = "better"
	Worse        = "worse"
	BelowMargin  = "below the margin"    // sure, but too small to matter
	Equivalent   = "equivalent"          // the whole interval lies within the margin
	NotShown     = "no difference shown" // anything else: the repetitions do not tell
	tooFewToShow = "too few repetitions" // no difference, however large, could have been shown
)

// Change is the comparison of one metric of one scenario.
type Change struct {
	Scenario, Metric, Unit string
	// Base and Contender are the medians of the sides, with their intervals.
	Base, Contender CompareSide
	// ChangePct is from base to contender in percent of base; NaN where base is 0.
	ChangePct float64
	// LowPct and HighPct enclose the change with ConfidencePct; NaN where a figure is not positive.
	LowPct, HighPct, ConfidencePct float64
	// P is the p-value of the two-sided Mann-Whitney U test, CorrectedP the same after Holm's correction for all metrics compared.
	P, CorrectedP float64
	// Verdict is Better, Worse and so on.
	Verdict string
}

// CompareSide is one side's figure.
type CompareSide struct {
	N                 int
	Median, Low, High float64
}

// Comparison is the comparison of two sides, each of one or more runs.
type Comparison struct {
	MarginPct float64
	// Differences make the sides, or runs of a side, incomparable.
	Differences []Difference
	// Tuning are differences that a comparison may be about: the server's settings and commit. Device are those of figures that no
	// setting holds still. Both are for the reader.
	Tuning, Device []Difference
	Changes        []Change
	// OnlyIn names scenarios that one side alone has.
	OnlyIn []string
	Notes  []string
}

// Compare compares the valid repetitions of the scenarios that both sides have; repetitions of the runs of a side are taken together. It
// does not refuse unlike fingerprints; the caller decides by Comparison.Differences. Each side has at least one run.
func Compare(base, contender []*Result, options CompareOptions) Comparison {
	comparison := Comparison{MarginPct: options.MarginPct, Differences: environmentDifferences(base, contender)}
	comparison.Tuning, comparison.Device = commitDifferences(base, contender), deviceDifferences(base, contender)
	a, order := pool(base)
	b, contenderOrder := pool(contender)
	for _, name := range order {
		if b[name] == nil {
			comparison.OnlyIn = append(comparison.OnlyIn, name+" (base)")
			continue
		}
		comparison.compareScenario(a[name], b[name], options)
	}
	for _, name := range contenderOrder {
		if a[name] == nil {
			comparison.OnlyIn = append(comparison.OnlyIn, name+" (contender)")
		}
	}
	comparison.conclude()
	return comparison
}

// pooled is a scenario over all runs of a side.
type pooled struct {
	Scenario
	runs []*Scenario
}

// pool joins the repetitions of the scenarios of several runs. It returns their names in the order of the runs too.
func pool(runs []*Result) (map[string]*pooled, []string) {
	joined := make(map[string]*pooled)
	var order []string
	for _, run := range runs {
		for i := range run.Scenarios {
			scenario := &run.Scenarios[i]
			if scenario.State == Skipped {
				continue
			}
			of := joined[scenario.Name]
			if of == nil {
				of = &pooled{Scenario: *scenario}
				of.Repetitions = nil
				joined[scenario.Name] = of
				order = append(order, scenario.Name)
			}
			of.runs = append(of.runs, scenario)
			of.Repetitions = append(of.Repetitions, scenario.Repetitions...)
		}
	}
	return joined, order
}

func (c *Comparison) compareScenario(a, b *pooled, options CompareOptions) {
	c.Differences = append(c.Differences, loadDifferences(a, b)...)
	c.Tuning = append(c.Tuning, settingDifferences(a, b)...)
	for _, side := range []struct {
		name     string
		scenario *pooled
	}{{"base", a}, {"contender", b}} {
		valid := len(validRepetitions(side.scenario.Repetitions))
		if valid == 0 {
			c.Notes = append(c.Notes, fmt.Sprintf("%s has no valid repetition in the %s, so it cannot be compared", a.Name, side.name))
		} else if all := len(side.scenario.Repetitions); valid < all {
			c.Notes = append(c.Notes, fmt.Sprintf("%s: %d of %d repetitions of the %s are not valid and were left out", a.Name, all-valid, all, side.name))
		}
	}
	for _, metric := range comparedMetrics(&a.Scenario, &b.Scenario, options.AllMetrics) {
		if change, ok := compareMetric(&a.Scenario, &b.Scenario, metric); ok {
			c.Changes = append(c.Changes, change)
		}
	}
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
	base, contender := valuesOf(validRepetitions(a.Repetitions), name), valuesOf(validRepetitions(b.Repetitions), name)
	if len(base) == 0 || len(contender) == 0 {
		return Change{}, false
	}
	metric, _ := LookUp(name)
	change := Change{
		Scenario: a.Name, Metric: name, Unit: metric.Unit, Base: compareSide(base), Contender: compareSide(contender),
		P: rankTest(base, contender), ChangePct: math.NaN(), LowPct: math.NaN(), HighPct: math.NaN(),
	}
	if change.Base.Median != 0 {
		change.ChangePct = 100 * (change.Contender.Median/change.Base.Median - 1)
	}
	if low, high, confidence, ok := ratioInterval(base, contender); ok {
		change.LowPct, change.HighPct, change.ConfidencePct = 100*(low-1), 100*(high-1), 100*confidence
	}
	return change, true
}

func compareSide(values []float64) CompareSide {
	found := summarize(values)
	return CompareSide{N: len(values), Median: found.median, Low: found.low, High: found.high}
}

// conclude corrects the p-values for their number and gives the verdicts.
func (c *Comparison) conclude() {
	p := make([]float64, len(c.Changes))
	for i, change := range c.Changes {
		p[i] = change.P
	}
	tooFew := false
	for i, corrected := range holm(p) {
		change := &c.Changes[i]
		change.CorrectedP = corrected
		change.Verdict = change.verdict(c.MarginPct)
		// Of all metrics the first in Holm's order needs the least; what cannot be shown even then cannot be shown at all.
		if change.Verdict == NotShown && smallestP(change.Base.N, change.Contender.N)*float64(len(p)) >= significance {
			change.Verdict, tooFew = tooFewToShow, true
		}
	}
	if tooFew {
		c.Notes = append(c.Notes, fmt.Sprintf("with %d metrics compared it takes %d repetitions on each side to show even the clearest change of one",
			len(p), repetitionsToShow(len(p))))
	}
}

func (c *Change) verdict(marginPct float64) string {
	metric, _ := LookUp(c.Metric)
	switch {
	case c.LowPct > -marginPct && c.HighPct < marginPct && c.ConfidencePct >= 100*(1-significance):
		return Equivalent
	case c.CorrectedP >= significance || c.Contender.Median == c.Base.Median:
		return NotShown
	case math.Abs(c.ChangePct) < marginPct:
		return BelowMargin
	case (c.Contender.Median > c.Base.Median) == (metric.Better > 0):
		return Better
	}
	return Worse
}

// Any tells whether any change has this verdict.
func (c *Comparison) Any(verdict string) bool {
	return slices.ContainsFunc(c.Changes, func(change Change) bool { return change.Verdict == verdict })
}

// environmentDifferences lists what differs between the machines of any two runs.
func environmentDifferences(base, contender []*Result) []Difference {
	of := func(name string, value func(Environment) any) []Difference {
		return differing(name, base, contender, func(r *Result) string { return fmt.Sprint(value(r.Env)) })
	}
	return slices.Concat(
		of("operating system", func(e Environment) any { return e.OS }),
		of("kernel", func(e Environment) any { return e.Kernel }),
		of("processor", func(e Environment) any { return e.CPUModel }),
		of("cores", func(e Environment) any { return e.Cores }),
		of("memory", func(e Environment) any { return formatBytes(float64(e.MemoryBytes)) }),
		of("file system", func(e Environment) any { return e.FileSystem }),
		of("device", func(e Environment) any { return e.Device }),
		of("Go", func(e Environment) any { return e.GoVersion }),
	)
}

func commitDifferences(base, contender []*Result) []Difference {
	return differing("commit", base, contender, func(r *Result) string { return r.Env.commitWords() })
}

// deviceRatio is the factor between the device's fdatasync medians from which the reader is told.
const deviceRatio = 1.25

// deviceDifferences says where the disk itself was faster on one side: then latencies differ without any change of the server.
func deviceDifferences(base, contender []*Result) []Difference {
	values := func(runs []*Result) []float64 {
		var list []float64
		for _, run := range runs {
			list = append(list, float64(run.Env.FdatasyncP50Nanos))
		}
		return list
	}
	a, b := summarize(values(base)).median, summarize(values(contender)).median
	if max(a, b) < deviceRatio*min(a, b) {
		return nil
	}
	return []Difference{{"fdatasync p50", formatNanos(a), formatNanos(b)}}
}

// loadDifferences lists in what the loads of a scenario differ: such figures do not measure the same.
func loadDifferences(a, b *pooled) []Difference {
	return slices.Concat(
		differingScenarios(a, b, "ack level", func(s *Scenario) string { return s.AckLevel }),
		differingScenarios(a, b, "client", func(s *Scenario) string { return s.Client }),
		differingScenarios(a, b, "offered rate", func(s *Scenario) string { return FormatValue(s.OfferedRate, "records/s") }),
		differingScenarios(a, b, "load", func(s *Scenario) string { return s.LoadSHA256[:min(12, len(s.LoadSHA256))] }),
	)
}

// settingDifferences lists the server's settings that differ.
func settingDifferences(a, b *pooled) []Difference {
	base, contender := flatten("", a.Server), flatten("", b.Server)
	keys := maps.Clone(base)
	maps.Copy(keys, contender)
	var list []Difference
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if base[key] != contender[key] {
			word := func(s string) string {
				if s == "" {
					return "default"
				}
				return s
			}
			list = append(list, Difference{a.Name + ": " + key, word(base[key]), word(contender[key])})
		}
	}
	return list
}

// flatten writes nested settings as "wal.segment_bytes".
func flatten(prefix string, settings map[string]any) map[string]string {
	flat := make(map[string]string)
	for key, value := range settings {
		if inner, ok := value.(map[string]any); ok {
			maps.Copy(flat, flatten(prefix+key+".", inner))
			continue
		}
		flat[prefix+key] = fmt.Sprint(value)
	}
	return flat
}

func differing(property string, base, contender []*Result, of func(*Result) string) []Difference {
	return unlike(property, collect(base, of), collect(contender, of))
}

func differingScenarios(a, b *pooled, property string, of func(*Scenario) string) []Difference {
	return unlike(a.Name+": "+property, collect(a.runs, of), collect(b.runs, of))
}

func collect[T any](list []T, of func(T) string) []string {
	var values []string
	for _, item := range list {
		if value := of(item); !slices.Contains(values, value) {
			values = append(values, value)
		}
	}
	return values
}

// unlike is the difference of two lists of values, nothing where each holds the same one alone. A value that old runs do not have is
// empty, and tells nothing.
func unlike(property string, base, contender []string) []Difference {
	empty := func(s string) bool { return s == "" }
	base, contender = slices.DeleteFunc(base, empty), slices.DeleteFunc(contender, empty)
	if len(base) == 0 || len(contender) == 0 || len(base) == 1 && reflect.DeepEqual(base, contender) {
		return nil
	}
	return []Difference{{property, strings.Join(base, ", "), strings.Join(contender, ", ")}}
}
