package crashlevel

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// ReadLines reads what the tests have left in a report.
func ReadLines(r io.Reader) ([]Line, error) {
	var lines []Line
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		var l Line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return lines, fmt.Errorf("crash report, line %d: %w", len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	return lines, scanner.Err()
}

// WriteTable prints what was explored, a line for each test, with the command that repeats it below each one that saw a promise broken,
// and the sums. It returns the number of broken promises.
func WriteTable(w io.Writer, lines []Line) (violations int64, err error) {
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b Line) int { return strings.Compare(a.Layer, b.Layer) })
	table := new(strings.Builder)
	columns := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "LAYER\tTEST\tEXPLORED\tVIOLATIONS\tTIME\tSEED")
	for i := range lines {
		l := &lines[i]
		fmt.Fprintf(columns, "%s\t%s\t%s %s\t%d\t%.1f s\t%d\n", l.Layer, l.Test, thousands(l.Explored), l.Unit, l.Violations, l.Seconds, l.Seed)
	}
	if err := columns.Flush(); err != nil {
		return 0, err
	}
	// The table's lines are complete only now, so that the commands, which are longer than any column, do not widen it.
	header, rows, _ := strings.Cut(table.String(), "\n")
	fmt.Fprintln(w, header)
	sums := make(map[string]int64)
	var seconds float64
	for i, row := range strings.SplitAfter(rows, "\n")[:len(lines)] {
		l := &lines[i]
		fmt.Fprint(w, row)
		if l.Violations > 0 {
			fmt.Fprintf(w, "    to repeat: %s\n", l.Replay)
		}
		violations += l.Violations
		sums[l.Unit] += l.Explored
		seconds += l.Seconds
	}
	explored := make([]string, 0, len(sums))
	for _, unit := range slices.Sorted(maps.Keys(sums)) {
		explored = append(explored, thousands(sums[unit])+" "+unit)
	}
	_, err = fmt.Fprintf(w, "%s in %v: %d violations\n", strings.Join(explored, ", "),
		time.Duration(seconds*float64(time.Second)).Round(time.Second), violations)
	return violations, err
}

// thousands writes n with commas between the thousands.
func thousands(n int64) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
