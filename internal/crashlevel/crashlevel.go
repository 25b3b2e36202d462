// Package crashlevel is what all crash tests share, wherever in the tree they live: how much to explore, the seed, and the line that each
// of them leaves for the table of `make crashtest`.
//
// Three variables of the environment rule them, so that one command reaches tests in many packages:
//
//   - INGESTOR_CRASH_LEVEL: "gate" explores what `make test` promises, "long" what `make crashtest-long` does; unset is for
//     `go test` of one package, also under the race detector, and takes seconds
//   - INGESTOR_CRASH_SEED repeats the random choices of a run; unset, a new seed is drawn. Every failure prints how to repeat it
//   - INGESTOR_CRASH_REPORT names a file to which each test appends its Line as JSON
//
// A test that calls Start, by itself or through other functions, is a crash test: package crashlayers finds it in the source, `make test` runs
// it again at level gate and without the race detector, `make crashtest-long` at level long. It needs no special name and is put on
// no list. Below crashtest/, where tests drive the built server, a package with crash tests is only run that way, all of it.
package crashlevel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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
	// Test is the test's name, Package its package as `go test` takes it.
	Test    string `json:"test"`
	Package string `json:"package"`
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

// Start begins a run. packagePath is the test's package as `go test` takes it at the root of the repository:
// "./ingestor/internal/wal". When the test ends, its line is written; where the test has failed, the command that repeats it is printed.
func Start(t testing.TB, layer, unit, packagePath string) *Run {
	t.Helper()
	r := &Run{t: t, start: time.Now(), line: Line{Layer: layer, Unit: unit, Test: t.Name(), Package: packagePath, Seed: seed(t)}}
	r.line.Replay = replay(os.Getenv("INGESTOR_CRASH_LEVEL"), r.line.Seed, t.Name(), packagePath, module())
	t.Cleanup(r.finish)
	return r
}

// replay is the command that repeats a test. module is the directory of the package's module below the root of the repository.
func replay(level string, seed uint64, test, packagePath, module string) string {
	elements := strings.Split(test, "/")
	for i := range elements {
		elements[i] = "^" + regexp.QuoteMeta(elements[i]) + "$"
	}
	goTest := "go test"
	if module != "." {
		goTest += " -C " + module
		if below, err := filepath.Rel(module, packagePath); err == nil && below != "." {
			packagePath = "./" + below
		} else {
			packagePath = "."
		}
	}
	if level != "" {
		level = "INGESTOR_CRASH_LEVEL=" + level + " "
	}
	return fmt.Sprintf("%sINGESTOR_CRASH_SEED=%d %s -count=1 -timeout 0 -run '%s' %s", level, seed, goTest, strings.Join(elements, "/"), packagePath)
}

// module is the directory of the module of the test that runs, relative to the root of the repository; "." where it cannot be told.
func module() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	var modules []string // innermost first
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			modules = append(modules, dir)
		}
	}
	if len(modules) < 2 {
		return "."
	}
	relative, err := filepath.Rel(modules[len(modules)-1], modules[0])
	if err != nil {
		return "."
	}
	return relative
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
