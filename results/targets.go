package results

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// target is a row of the table of targets.
type target struct {
	Figure, Limit, Measured, Ceiling string
	State                            State
	Compare                          string
}

// targets lists the objectives that name a target, in the order of the scenarios.
func (r *Result) targets() []target {
	var rows []target
	for i := range r.Scenarios {
		scenario := &r.Scenarios[i]
		for _, o := range scenario.Objectives {
			if o.Target == "" {
				continue
			}
			rows = append(rows, target{
				Figure: o.Target, Limit: o.Condition(), Measured: scenario.measuredWords(o),
				Ceiling: scenario.againstCeilings(o), State: o.State, Compare: o.Compare,
			})
		}
	}
	return rows
}

// measuredWords are the median and the range over the repetitions that count.
func (s *Scenario) measuredWords(o Objective) string {
	values := valuesOf(s.counted(), o.Metric)
	if len(values) == 0 {
		return "none"
	}
	words := FormatValue(summarize(values).median, o.Unit)
	if low, high := FormatValue(slices.Min(values), o.Unit), FormatValue(slices.Max(values), o.Unit); low != high {
		words += fmt.Sprintf(" (%s to %s)", strings.TrimSuffix(low, " "+o.Unit), strings.TrimSuffix(high, " "+o.Unit))
	}
	if len(validRepetitions(s.Repetitions)) == 0 {
		words += ", not valid"
	}
	return words
}

// targetsNote explains the table's columns.
const targetsNote = "Measured: median and range over the valid repetitions. Ceilings were taken in the same repetitions. " +
	"Comparisons were measured elsewhere, by others or in other runs; they are no result of this run."

// WriteTargets prints the table of targets; nothing where no objective names one.
func WriteTargets(w io.Writer, r *Result) error {
	rows := r.targets()
	if len(rows) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FIGURE\tTARGET\tMEASURED\tCEILING\tSTATE\tFOR COMPARISON (MEASURED ELSEWHERE)")
	for _, row := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", row.Figure, row.Limit, row.Measured, row.Ceiling, row.State, row.Compare)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s\n\n", targetsNote)
	return err
}

// markdownTargets is WriteTargets as Markdown.
func markdownTargets(b *strings.Builder, r *Result) {
	rows := r.targets()
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n## Targets\n\n| Figure | Target | Measured | Ceiling | State | For comparison (measured elsewhere) |\n|---|---|---|---|---|---|\n")
	for _, row := range rows {
		fmt.Fprintf(b, "| %s | %s | %s | %s | **%s** | %s |\n",
			cell(row.Figure), cell(row.Limit), row.Measured, row.Ceiling, row.State, cell(row.Compare))
	}
	fmt.Fprintf(b, "\n%s\n", targetsNote)
}
