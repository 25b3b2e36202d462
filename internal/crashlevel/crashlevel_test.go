package crashlevel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorder is a test that may fail without failing the one that runs it.
type recorder struct {
	testing.TB
	failed, skipped bool
	cleanups        []func()
	log             []string
}

func (r *recorder) Helper()                 {}
func (r *recorder) Name() string            { return "TestCuts/at_8+1_bytes" }
func (r *recorder) Failed() bool            { return r.failed }
func (r *recorder) Skipped() bool           { return r.skipped }
func (r *recorder) Cleanup(f func())        { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(f string, _ ...any) { r.log = append(r.log, f) }

func (r *recorder) end() {
	for _, f := range r.cleanups {
		f()
	}
}

func TestPick(t *testing.T) {
	for level, want := range map[string]int{"": 1, "gate": 2, "long": 3} {
		t.Setenv("INGESTOR_CRASH_LEVEL", level)
		require.Equal(t, want, Pick(t, 1, 2, 3))
	}
}

func TestALineIsLeftUnlessTheTestIsSkipped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	t.Setenv("INGESTOR_CRASH_REPORT", path)
	t.Setenv("INGESTOR_CRASH_SEED", "77")
	t.Setenv("INGESTOR_CRASH_LEVEL", "gate")

	good := &recorder{TB: t}
	run := Start(good, "power cuts", "cuts", "./crashtest")
	run.Explored(1200)
	run.Explored(34)
	good.end()
	bad := &recorder{TB: t}
	Start(bad, "states", "states", "./ingestor/internal/wal")
	bad.failed = true
	bad.end()
	skipped := &recorder{TB: t, skipped: true}
	Start(skipped, "containers", "kills", "./x")
	skipped.end()

	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	lines, err := ReadLines(f)
	require.NoError(t, err)
	require.Len(t, lines, 2)
	require.EqualValues(t, 1234, lines[0].Explored)
	require.Zero(t, lines[0].Violations)
	require.EqualValues(t, 1, lines[1].Violations, "a test that failed has seen at least one violation")
	require.Contains(t, bad.log, "to repeat: %s")

	var table strings.Builder
	violations, err := WriteTable(&table, lines)
	require.NoError(t, err)
	require.EqualValues(t, 1, violations)
	rows := strings.Split(table.String(), "\n")
	require.Contains(t, rows[1], "power cuts")
	require.Contains(t, rows[1], "1,234 cuts")
	require.Contains(t, rows[2], "states")
	require.Equal(t, "    to repeat: INGESTOR_CRASH_LEVEL=gate INGESTOR_CRASH_SEED=77 go test -count=1 -timeout 0 "+
		`-run '^TestCuts$/^at_8\+1_bytes$' ./ingestor/internal/wal`, rows[3])
	require.Contains(t, rows[4], "1,234 cuts, 0 states")
	require.Contains(t, rows[4], "1 violations")
}

func TestReplayInAModuleOfItsOwn(t *testing.T) {
	require.Equal(t, "INGESTOR_CRASH_SEED=1 go test -C crashtest/containers -count=1 -timeout 0 -run '^TestA$' .",
		replay("", 1, "TestA", "./crashtest/containers", "crashtest/containers"))
}

func TestDamagedReportIsAnError(t *testing.T) {
	_, err := ReadLines(strings.NewReader("{}\n{"))
	require.ErrorContains(t, err, "line 2")
}
