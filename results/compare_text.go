package results

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// WriteComparison prints a comparison, differences of environment first.
func WriteComparison(w io.Writer, c Comparison) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, section := range []struct {
		title string
		list  []Difference
	}{{"ENVIRONMENT", c.Differences}, {"DEVICE", c.Device}, {"COMPARED", c.Tuning}} {
		if len(section.list) == 0 {
			continue
		}
		fmt.Fprintf(table, "%s\tBASE\tCONTENDER\n", section.title)
		for _, d := range section.list {
			fmt.Fprintf(table, "%s\t%s\t%s\n", d.Property, d.Base, d.Contender)
		}
		fmt.Fprintln(table)
	}
	if len(c.Changes) > 0 {
		fmt.Fprintln(table, "SCENARIO\tMETRIC\tBASE\tCONTENDER\tCHANGE\tP (HOLM)\tN\tVERDICT")
	}
	for _, change := range c.Changes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d+%d\t%s\n", change.Scenario, change.Metric,
			change.Base.words(change.Unit), change.Contender.words(change.Unit), change.words(),
			formatP(change.CorrectedP), change.Base.N, change.Contender.N, change.Verdict)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(c.Changes) > 0 {
		fmt.Fprintf(w, "\nmedians with their intervals; the change with the interval of the U test at 95%%, or what the repetitions give; "+
			"two-sided Mann-Whitney U test, exact, with Holm's correction for %d metrics; margin %g%%\n", len(c.Changes), c.MarginPct)
	}
	for _, name := range c.OnlyIn {
		fmt.Fprintf(w, "only on one side: %s\n", name)
	}
	for _, note := range c.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	return nil
}

func (s CompareSide) words(unit string) string {
	objective := Objective{Unit: unit, Median: &s.Median}
	if s.N >= intervalFrom {
		objective.Low, objective.High = &s.Low, &s.High
	}
	return objective.Figure()
}

// words are the change in percent and its interval, with the confidence where that is not 95 %.
func (c Change) words() string {
	if math.IsNaN(c.ChangePct) {
		return "n/a"
	}
	words := fmt.Sprintf("%+.1f%%", c.ChangePct)
	if math.IsNaN(c.LowPct) || c.Base.N < intervalFrom || c.Contender.N < intervalFrom {
		return words
	}
	words += fmt.Sprintf(" [%+.1f to %+.1f", c.LowPct, c.HighPct)
	if c.ConfidencePct < 100*(1-significance) {
		words += fmt.Sprintf(" at %.0f%%", c.ConfidencePct)
	}
	return words + "]"
}

func formatP(p float64) string {
	if p < 0.001 {
		return "<0.001"
	}
	return fmt.Sprintf("%.3f", p)
}
