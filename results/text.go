package results

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

var stateWords = map[State]string{Pass: "PASS", Fail: "FAIL", Inconclusive: "INCONCLUSIVE", Skipped: "SKIPPED"}

// String is the state as tables print it.
func (s State) String() string { return stateWords[s] }

// Condition is the objective's limit in words: "< 1 ms".
func (o Objective) Condition() string { return o.Op + " " + FormatValue(o.Limit, o.Unit) }

// Figure is what was found, in words, with the interval where there is one.
func (o Objective) Figure() string {
	if o.Median == nil {
		return "none"
	}
	figure := FormatValue(*o.Median, o.Unit)
	if o.Low == nil || o.High == nil {
		return figure
	}
	low, high := FormatValue(*o.Low, o.Unit), FormatValue(*o.High, o.Unit)
	if low == high {
		return figure
	}
	// "1.04 ms [0.96 to 1.10]": a unit that all three share stands once.
	_, unit, _ := strings.Cut(figure, " ")
	if unit != "" && strings.HasSuffix(low, " "+unit) && strings.HasSuffix(high, " "+unit) {
		low, high = strings.TrimSuffix(low, " "+unit), strings.TrimSuffix(high, " "+unit)
	}
	return figure + " [" + low + " to " + high + "]"
}

// Margin is how far the median is from the limit on the good side, in percent of the limit; empty where that has no meaning.
func (o Objective) Margin() string {
	if o.Median == nil || o.Limit == 0 {
		return ""
	}
	margin := 100 * (*o.Median - o.Limit) / o.Limit
	if strings.HasPrefix(o.Op, "<") {
		margin = -margin
	}
	if o.Op == "==" {
		return ""
	}
	return fmt.Sprintf("%+.0f%%", margin)
}

// reasonsShown bounds what a table says about one scenario.
const reasonsShown = 4

// WriteTable prints the objectives with figure, limit and state, and below it what every rate must be read with.
func WriteTable(w io.Writer, r *Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SCENARIO\tOBJECTIVE\tFIGURE\tLIMIT\tSTATE\tACK LEVEL\tCLIENT")
	for _, scenario := range r.Scenarios {
		if scenario.State == Skipped {
			fmt.Fprintf(table, "%s\t%s\t\t\t%s\t\t\n", scenario.Name, strings.Join(scenario.Reasons, "; "), Skipped)
			continue
		}
		for _, o := range scenario.Objectives {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
				scenario.Name, o.Metric, o.Figure(), o.Condition(), o.State, scenario.AckLevel, scenario.Client)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, scenario := range r.Scenarios {
		if scenario.State == Pass && scenario.Search != nil {
			fmt.Fprintf(w, "%s: %s\n", scenario.Name, scenario.Search.Sentence())
		}
		if scenario.State == Pass || scenario.State == Skipped {
			continue
		}
		for _, reason := range scenario.Reasons[:min(len(scenario.Reasons), reasonsShown)] {
			fmt.Fprintf(w, "%s: %s: %s\n", scenario.Name, scenario.State, reason)
		}
		if more := len(scenario.Reasons) - reasonsShown; more > 0 {
			fmt.Fprintf(w, "%s: %d more reasons are in the report\n", scenario.Name, more)
		}
	}
	fmt.Fprintln(w)
	for _, words := range r.confidences() {
		fmt.Fprintln(w, words)
	}
	fmt.Fprintf(w, "verified: %s\n", r.Verify.words())
	fmt.Fprintf(w, "machine: %s\n", r.Env.words())
	_, err := fmt.Fprintf(w, "%s: %s\n", r.Verdict.State, r.Verdict.Sentence)
	return err
}

// confidences say what the intervals are worth, in one line for each number of valid repetitions.
func (r *Result) confidences() []string {
	names := make(map[int][]string)
	for _, scenario := range r.Scenarios {
		if scenario.State != Skipped {
			n := len(validRepetitions(scenario.Repetitions))
			names[n] = append(names[n], scenario.Name)
		}
	}
	var lines []string
	for _, n := range slices.Sorted(maps.Keys(names)) {
		lines = append(lines, strings.Join(names[n], ", ")+": "+confidenceWords(n))
	}
	return lines
}

func (v Verify) words() string {
	if !v.Checked {
		return "no"
	}
	return fmt.Sprintf("%d records acked; %d missing, %d duplicate, %d corrupt, %d unexpected",
		v.Acked, v.Missing, v.Duplicate, v.Corrupt, v.Unexpected)
}

func (e Environment) words() string {
	return fmt.Sprintf("%s, %d cores, %s on %s, fdatasync of 4 KiB p50 %s p99 %s, steal %.1f%%, commit %s",
		e.CPUModel, e.Cores, e.FileSystem, e.Device,
		formatNanos(float64(e.FdatasyncP50Nanos)), formatNanos(float64(e.FdatasyncP99Nanos)), e.StealPct, e.commitWords())
}

func (e Environment) commitWords() string {
	commit := e.Commit[:min(12, len(e.Commit))]
	if e.CommitDirty {
		commit += " with local changes"
	}
	return commit
}

// WriteMarkdown writes the report for readers of text.
func WriteMarkdown(w io.Writer, r *Result) error {
	var b strings.Builder
	markdownFirstScreen(&b, r)
	for i := range r.Scenarios {
		markdownScenario(&b, &r.Scenarios[i])
	}
	fmt.Fprintf(&b, "\n## Reproduce\n\n```\n%s\n```\n", strings.Join(r.Command, " "))
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteSummary writes the first screen of WriteMarkdown, for places such as the step summary of a CI job.
func WriteSummary(w io.Writer, r *Result) error {
	var b strings.Builder
	markdownFirstScreen(&b, r)
	_, err := io.WriteString(w, b.String())
	return err
}

// markdownFirstScreen is the verdict, the objectives, and what every rate must be read with.
func markdownFirstScreen(b *strings.Builder, r *Result) {
	fmt.Fprintf(b, "# %s\n\n%s\n\n", r.Verdict.State, r.Verdict.Sentence)
	b.WriteString("| Scenario | Objective | Figure | Limit | Margin | State | Ack level | Client |\n|---|---|---|---|---|---|---|---|\n")
	for _, scenario := range r.Scenarios {
		if scenario.State == Skipped {
			fmt.Fprintf(b, "| %s | %s | | | | %s | | |\n", scenario.Name, cell(strings.Join(scenario.Reasons, "; ")), Skipped)
		}
		for _, o := range scenario.Objectives {
			if scenario.State == Skipped {
				break
			}
			fmt.Fprintf(b, "| %s | `%s` | %s | %s | %s | **%s** | %s | %s |\n", scenario.Name, o.Metric, o.Figure(),
				cell(o.Condition()), o.Margin(), o.State, scenario.AckLevel, scenario.Client)
		}
	}
	b.WriteString("\n")
	for _, words := range r.confidences() {
		fmt.Fprintf(b, "%s.\n", words)
	}
	fmt.Fprintf(b, "\nVerified: %s.\n\nMachine: %s.\n", r.Verify.words(), r.Env.words())
	markdownTargets(b, r)
	markdownVariants(b, r)
}

func markdownScenario(b *strings.Builder, s *Scenario) {
	fmt.Fprintf(b, "\n## %s: %s\n\n%s\n", s.Name, s.State, s.Description)
	for _, reason := range s.Reasons {
		fmt.Fprintf(b, "\n- %s", reason)
	}
	if s.Search != nil {
		markdownSearch(b, s.Search)
	}
	if len(s.Repetitions) == 0 {
		b.WriteString("\n")
		return
	}
	fmt.Fprintf(b, "\n\n%s.\n", confidenceWords(len(validRepetitions(s.Repetitions))))
	markdownValidity(b, s)
	b.WriteString("\n| Figure |")
	for _, repetition := range s.Repetitions {
		fmt.Fprintf(b, " %d%s |", repetition.Index+1, map[bool]string{true: " (not valid)"}[len(repetition.Invalid) > 0])
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(s.Repetitions)) + "\n")
	for _, name := range s.metricNames() {
		fmt.Fprintf(b, "| `%s` |", name)
		for _, repetition := range s.Repetitions {
			fmt.Fprintf(b, " %s |", repetition.Figure(name))
		}
		b.WriteString("\n")
	}
}

// metricNames lists the metrics that any repetition has, in the catalogue's order of names.
func (s *Scenario) metricNames() []string {
	var names []string
	for _, name := range MetricNames() {
		if slices.ContainsFunc(s.Repetitions, func(r Repetition) bool { _, ok := r.Metrics[name]; return ok }) {
			names = append(names, name)
		}
	}
	return names
}

// Figure is one metric in words, empty where it was not measured.
func (r Repetition) Figure(metric string) string {
	value, ok := r.Metrics[metric]
	if !ok {
		return ""
	}
	description, _ := LookUp(metric)
	return FormatValue(value, description.Unit)
}

// cell keeps a text from ending a table cell.
func cell(text string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text) }
