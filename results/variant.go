package results

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// VariantAgain is the first variant of a scenario when it is measured a second time among the others.
const VariantAgain = "again"

// VariantComparison holds the variants of one scenario against the first of them.
type VariantComparison struct {
	Scenario, Base string
	Rows           []VariantRow
	Notes          []string
}

// VariantRow is one metric of one variant.
type VariantRow struct {
	Variant string
	// FloorPct is the noise floor: the largest difference, in percent, that lies within the interval of the first variant against
	// itself. This machine, with so many repetitions, shows no smaller change of this metric. NaN where it is not known.
	FloorPct float64
	Change
}

// compareVariants compares the variants of each scenario that has some, in the order of the run.
func (r *Result) compareVariants() []VariantComparison {
	var list []VariantComparison
	for i := 0; i < len(r.Scenarios); i++ {
		group := r.Scenarios[i].Group
		if group == "" {
			continue
		}
		end := i + 1
		for end < len(r.Scenarios) && r.Scenarios[end].Group == group {
			end++
		}
		list = append(list, newVariantComparison(r.Scenarios[i:end]))
		i = end - 1
	}
	return list
}

func newVariantComparison(variants []Scenario) VariantComparison {
	base := &variants[0]
	comparison := VariantComparison{Scenario: base.Group, Base: base.Variant}
	floors := make(map[string]float64)
	var changes Comparison
	for i := range variants[1:] {
		variant := &variants[i+1]
		for _, metric := range comparedMetrics(base, variant, false) {
			change, ok := compareMetric(base, variant, metric)
			switch {
			case !ok:
			case variant.Variant == VariantAgain:
				floors[metric] = max(math.Abs(change.LowPct), math.Abs(change.HighPct))
			default:
				change.Scenario = variant.Variant
				changes.Changes = append(changes.Changes, change)
			}
		}
	}
	for _, variant := range variants {
		if len(validRepetitions(variant.Repetitions)) == 0 {
			changes.Notes = append(changes.Notes, variant.Variant+" has no valid repetition, so it cannot be compared")
		}
	}
	changes.MarginPct = DefaultMarginPct
	changes.conclude()
	for _, change := range changes.Changes {
		floor, ok := floors[change.Metric]
		if !ok {
			floor = math.NaN()
		}
		// What the first variant does against itself is no change, however sure the test is.
		if (change.Verdict == Better || change.Verdict == Worse) && math.Abs(change.ChangePct) <= floor {
			change.Verdict = BelowFloor
		}
		comparison.Rows = append(comparison.Rows, VariantRow{change.Scenario, floor, change})
	}
	comparison.Notes = changes.Notes
	return comparison
}

// BelowFloor is the verdict on a change that is no larger than the noise floor.
const BelowFloor = "within the noise floor"

// variantsNote explains the table's columns.
const variantsNote = "Variants ran in turn, forwards and then backwards (ABBA), each repetition with a fresh server on an empty directory. " +
	"Noise floor: the largest difference within the interval of the first variant against itself, measured in the same turns; " +
	"no smaller change can be shown here with so many repetitions. Exact two-sided Mann-Whitney U test with Holm's correction."

func (v VariantRow) floorWords() string {
	if math.IsNaN(v.FloorPct) {
		return "unknown"
	}
	return fmt.Sprintf("%.1f%%", v.FloorPct)
}

// Cells are the row's words for tables.
func (v VariantRow) Cells() []string {
	return []string{v.Variant, v.Metric, v.Base.words(v.Unit), v.Contender.words(v.Unit), v.Change.words(), v.floorWords(),
		formatP(v.CorrectedP), v.Verdict}
}

// WriteVariants prints the comparisons of variants; nothing where the run has none.
func WriteVariants(w io.Writer, r *Result) error {
	for _, comparison := range r.compareVariants() {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(table, "%s\tMETRIC\t%s\tVARIANT\tCHANGE\tNOISE FLOOR\tP (HOLM)\tVERDICT\n", comparison.Scenario, comparison.Base)
		for _, row := range comparison.Rows {
			fmt.Fprintln(table, strings.Join(row.Cells(), "\t"))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		for _, note := range comparison.Notes {
			fmt.Fprintf(w, "note: %s\n", note)
		}
		fmt.Fprintf(w, "%s\n\n", variantsNote)
	}
	return nil
}

func markdownVariants(b *strings.Builder, r *Result) {
	for _, comparison := range r.compareVariants() {
		fmt.Fprintf(b, "\n## %s: variants against %s\n\n", comparison.Scenario, comparison.Base)
		fmt.Fprintf(b, "| Variant | Metric | %s | Variant's | Change | Noise floor | p (Holm) | Verdict |\n|---|---|---|---|---|---|---|---|\n", comparison.Base)
		for _, row := range comparison.Rows {
			fmt.Fprintf(b, "| %s |\n", strings.Join(row.Cells(), " | "))
		}
		for _, note := range comparison.Notes {
			fmt.Fprintf(b, "\n%s.\n", note)
		}
		fmt.Fprintf(b, "\n%s\n", variantsNote)
	}
}
