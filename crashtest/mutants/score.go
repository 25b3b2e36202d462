package mutants

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// line is a result as it is told when it is known.
func (r *Result) line() string {
	took := fmt.Sprintf("%5.1f s", r.Took.Seconds())
	switch r.Outcome {
	case Killed:
		return fmt.Sprintf("%s  killed    %-44s %s: %s %s", took, r.Mutant.Name, r.Layer, r.Test, r.How)
	case Survived:
		if r.Mutant.Survives != "" {
			return fmt.Sprintf("%s  survived  %-44s as explained: %s", took, r.Mutant.Name, r.Mutant.Survives)
		}
		return fmt.Sprintf("%s  SURVIVED  %-44s %s", took, r.Mutant.Name, r.Mutant.Mistake)
	}
	return fmt.Sprintf("%s  BROKEN    %-44s %s", took, r.Mutant.Name, r.Message)
}

// Score sums up a run.
type Score struct {
	Killed, Explained, Survived, Broken int
	// ByLayer counts the kills of each layer.
	ByLayer map[string]int
}

// Sum returns the score of a run.
func Sum(results []Result) Score {
	s := Score{ByLayer: map[string]int{}}
	for i := range results {
		switch r := &results[i]; {
		case r.Outcome == Killed:
			s.Killed++
			s.ByLayer[r.Layer]++
		case r.Outcome == Broken:
			s.Broken++
		case r.Mutant.Survives != "":
			s.Explained++
		default:
			s.Survived++
		}
	}
	return s
}

// Good says that every mutant was killed or is explained.
func (s *Score) Good() bool { return s.Killed > 0 && s.Survived == 0 && s.Broken == 0 }

// Write prints the score.
func (s *Score) Write(w io.Writer) error {
	layers := slices.Collect(maps.Keys(s.ByLayer))
	slices.SortFunc(layers, func(a, b string) int {
		if s.ByLayer[a] != s.ByLayer[b] {
			return s.ByLayer[b] - s.ByLayer[a]
		}
		return strings.Compare(a, b)
	})
	for _, layer := range layers {
		fmt.Fprintf(w, "%4d killed by %s\n", s.ByLayer[layer], layer)
	}
	total := s.Killed + s.Explained + s.Survived + s.Broken
	_, err := fmt.Fprintf(w, "%d of %d mutants killed, %d survive and are explained, %d SURVIVED, %d broken\n",
		s.Killed, total, s.Explained, s.Survived, s.Broken)
	return err
}

// WriteMarkdown prints a table of all mutants.
func WriteMarkdown(w io.Writer, results []Result) error {
	fmt.Fprintln(w, "| Mutant | Mistake | Breaks | Noticed by |\n|---|---|---|---|")
	for i := range results {
		r := &results[i]
		noticed := r.Message
		switch r.Outcome {
		case Killed:
			noticed = fmt.Sprintf("%s: `%s`", r.Layer, r.Test)
			if r.How != "failed" {
				noticed += " (" + r.How + ")"
			}
		case Survived:
			noticed = "**survived**"
			if r.Mutant.Survives != "" {
				noticed = "survives: " + r.Mutant.Survives
			}
		}
		m := &r.Mutant
		if _, err := fmt.Fprintf(w, "| %s | %s | %s | %s |\n", m.Name, m.Mistake, m.Invariant, strings.ReplaceAll(noticed, "|", `\|`)); err != nil {
			return err
		}
	}
	return nil
}
