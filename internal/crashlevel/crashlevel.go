// Package crashlevel is what all crash tests share, wherever in the tree they live: how much to explore, the seed, and the line that each
// of them leaves for the table of `make crashtest`.
//
// Three variables of the environment rule them, so that one command reaches tests in many packages:
//
//   - INGESTOR_CRASH_LEVEL: "gate" explores what `make test` promises, "long" what `make crashtest-long` does; unset is for
//     `go test` of one package, also under the race detector, and takes seconds
//   - INGESTOR_CRASH_SEED repeats the random choices of a run; unset, a new seed is drawn. Every failure prints how to repeat it
//   - INGESTOR_CRASH_REPORT names a file to which each test appends its Line as JSON
package crashlevel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Pick returns how much to explore at the level that the environment asks for. REQUIRES: brief <= gate <= long.
func Pick(t testing.TB, brief, gate, long int) int {
	t.Helper()
	switch level := os.Getenv("INGESTOR_CRASH_LEVEL"); level {
	case "":
		return brief
	case "gate":
		return gate
	case "long":
		return long
	default:
		t.Fatalf("INGESTOR_CRASH_LEVEL is %q; it may be gate, long or unset", level)
		return 0
	}
}

// Line is what a test leaves for the table.
type Line struct {
	// Layer is what was crashed, as the table names it: "WAL states", "power cuts".
	Layer string `json:"layer"`
	// Explored counts states, cuts, kills or whatever Unit says.
	Explored int64  `json:"explored"`
	Unit     string `json:"unit"`
	// Violations is the number of broken promises that were seen. A test that stops at the first reports 1.
	Violations int64   `json:"violations"`
	Seconds    float64 `json:"seconds"`
	Seed       uint64  `json:"seed,omitempty"`
	// Replay is the command that repeats the run, for the reader of a failure.
	Replay string `json:"replay"`
}

// Run is a crash test under way.
type Run struct {
	t     testing.TB
	line  Line
	start time.Time
}

// Start begins a run. packagePath is the test's package as `go test` takes it: "./ingestor/internal/wal". When the test ends, its line is
// written; where the test has failed, the command that repeats it is printed.
func Start(t testing.TB, layer, unit, packagePath string) *Run {
	t.Helper()
	r := &Run{t: t, start: time.Now(), line: Line{Layer: layer, Unit: unit, Seed: seed(t)}}
	r.line.Replay = fmt.Sprintf("INGESTOR_CRASH_LEVEL=%s INGESTOR_CRASH_SEED=%d go test -count=1 -run '^%s$' %s",
		os.Getenv("INGESTOR_CRASH_LEVEL"), r.line.Seed, t.Name(), packagePath)
	t.Cleanup(r.finish)
	return r
}

func seed(t testing.TB) uint64 {
	text := os.Getenv("INGESTOR_CRASH_SEED")
	if text == "" {
		return rand.Uint64()
	}
	s, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("INGESTOR_CRASH_SEED: %v", err)
	}
	return s
}

// Seed is what all random choices of the run must come from.
func (r *Run) Seed() uint64 { return r.line.Seed }

// Explored adds to what was explored.
func (r *Run) Explored(n int64) { r.line.Explored += n }

// Violation counts a broken promise. It does not fail the test; the caller does.
func (r *Run) Violation() { r.line.Violations++ }

func (r *Run) finish() {
	r.line.Seconds = time.Since(r.start).Seconds()
	if r.t.Failed() {
		r.line.Violations = max(r.line.Violations, 1)
		r.t.Logf("to repeat: %s", r.line.Replay)
	}
	r.t.Logf("%s: %d %s, %d violations, %.1f s, seed %d", r.line.Layer, r.line.Explored, r.line.Unit, r.line.Violations, r.line.Seconds, r.line.Seed)
	path := os.Getenv("INGESTOR_CRASH_REPORT")
	if path == "" || r.t.Skipped() {
		return
	}
	text, err := json.Marshal(r.line)
	if err != nil {
		r.t.Errorf("crash report: %v", err)
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // the path is the caller's
	if err != nil {
		r.t.Errorf("crash report: %v", err)
		return
	}
	if _, err := f.Write(append(text, '\n')); err != nil {
		r.t.Errorf("crash report: %v", err)
	}
	if err := f.Close(); err != nil {
		r.t.Errorf("crash report: %v", err)
	}
}
