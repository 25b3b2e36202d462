package results

import (
	"fmt"
	"strings"
)

// Check is one validity rule of a scenario, held against one repetition.
type Check struct {
	// Rule is the rule's key in the scenario.
	Rule   string `json:"rule"`
	Metric string `json:"metric"`
	// Measured is false where the repetition has no such metric; Value means nothing then, and the rule is not broken.
	Measured bool    `json:"measured"`
	Value    float64 `json:"value"`
	Limit    float64 `json:"limit"`
	// Broken: the repetition does not count, for the reason in words.
	Broken bool   `json:"broken"`
	Reason string `json:"reason,omitempty"`
	// Excused: the limit is exceeded, but by what the server did, which the objectives judge.
	Excused bool `json:"excused,omitempty"`
}

// words say what was found, with a mark where it matters.
func (c Check) words() string {
	metric, _ := LookUp(c.Metric)
	switch {
	case !c.Measured:
		return "not measured"
	case c.Broken:
		return FormatValue(c.Value, metric.Unit) + " (broken)"
	case c.Excused:
		return FormatValue(c.Value, metric.Unit) + " (the server's doing)"
	}
	return FormatValue(c.Value, metric.Unit)
}

// validityRow is one rule over all repetitions, for tables.
type validityRow struct {
	Rule, Limit string
	Found       []string
	Broken      bool
}

// validityRows lists the rules in the order of the first repetition that was checked.
func (s *Scenario) validityRows() []validityRow {
	var rows []validityRow
	place := make(map[string]int)
	for i, repetition := range s.Repetitions {
		for _, check := range repetition.Validity {
			at, ok := place[check.Rule]
			if !ok {
				at = len(rows)
				place[check.Rule] = at
				metric, _ := LookUp(check.Metric)
				rows = append(rows, validityRow{
					Rule: check.Rule, Limit: FormatValue(check.Limit, metric.Unit), Found: make([]string, len(s.Repetitions)),
				})
			}
			rows[at].Found[i] = check.words()
			rows[at].Broken = rows[at].Broken || check.Broken
		}
	}
	return rows
}

// markdownValidity writes the table of the rules; nothing where the scenario has none.
func markdownValidity(b *strings.Builder, s *Scenario) {
	rows := s.validityRows()
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n| Validity rule | Limit |")
	for _, repetition := range s.Repetitions {
		fmt.Fprintf(b, " %d |", repetition.Index+1)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(s.Repetitions)) + "\n")
	for _, row := range rows {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", row.Rule, row.Limit, strings.Join(row.Found, " | "))
	}
}
