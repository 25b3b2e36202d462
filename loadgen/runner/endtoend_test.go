package runner

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// serverBinary is the real server, built once for all tests.
var serverBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "runner-test-")
	if err == nil {
		serverBinary = filepath.Join(dir, "ingestion-server")
		build := exec.Command("go", "build", "-o", serverBinary, "github.com/ingestor-project/ingestor/ingestor/cmd/ingestion-server")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the server:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// scenarioFrom loads a scenario from its text.
func scenarioFrom(t *testing.T, text string) *scenarios.Scenario {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	scenario, err := scenarios.LoadFile(path)
	require.NoError(t, err)
	return scenario
}

const tinyLoad = `name: tiny
description: A second of load.
load:
  client: live
  streams: 2
  batch_records: 20
  tenants: 2
  endpoints: 2
  phases:
    - {name: warm-up, duration: 200ms, records_per_second: 2000, warm_up: true}
    - {name: measured, duration: 800ms, records_per_second: 2000}
objectives:
  - {metric: missing_records, op: "==", limit: 0}
  - {metric: duplicate_records, op: "==", limit: 0}
  - {metric: failed_batches, op: "==", limit: 0}
  - {metric: server_exit_code, op: "==", limit: 0}
`

// workDir is on the disk of the package, because the system's temporary directory may be in memory.
func workDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(".", ".work-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func TestRunAgainstTheRealServer(t *testing.T) {
	tests := []struct {
		name, text string
		check      func(*testing.T, results.Repetition)
	}{
		{"steady", tinyLoad, func(t *testing.T, r results.Repetition) {
			require.Positive(t, r.Histograms["server_commit"].Count)
			require.Positive(t, r.Histograms["client_response"].Count)
			require.Contains(t, r.Metrics, "commit_p99_ns")
		}},
		{"killed", tinyLoad + "actions:\n  - {at: 400ms, do: kill}\n  - {at: 500ms, do: restart}\n", func(t *testing.T, r results.Repetition) {
			require.Positive(t, r.Metrics["recovery_ready_ns"])
		}},
		{"killed at the end", tinyLoad + "end: kill\n", func(t *testing.T, r results.Repetition) {
			require.Positive(t, r.Metrics["recovery_ready_ns"])
			require.Zero(t, r.Metrics["left_in_log_records"])
		}},
		{"paused and drained", tinyLoad + "server: {processor: {paused: true}}\n", requireFlushedLater},
		{"paused and killed", tinyLoad + "server: {processor: {paused: true}}\nend: kill\nceilings: [read_log]\n", func(t *testing.T, r results.Repetition) {
			requireFlushedLater(t, r)
			require.EqualValues(t, 64<<20, r.Ceilings[0].ReadBytes, "one segment")
			require.InEpsilon(t, r.Metrics["replay_bytes_per_second"]/r.Metrics["read_log_bytes_per_second"], r.Metrics["replay_ratio"], 1e-9)
		}},
		{"with ceilings", tinyLoad + "ceilings: [null_sink, raw_disk, single_pair]\nceiling_duration: 200ms\n", func(t *testing.T, r results.Repetition) {
			require.Equal(t, []string{"null_sink", "raw_disk", "raw_disk", "single_pair"}, kindsOf(r.Ceilings))
			require.Equal(t, []string{"buffered", "", "", "wal_synced"}, ackLevelsOf(r.Ceilings))
			require.EqualValues(t, 4096, r.Ceilings[1].WriteBytes, "20 records of 144 bytes")
			requireRatio(t, r, "null_sink")
			requireRatio(t, r, "raw_disk")
			requireRatio(t, r, "single_pair")
			require.Equal(t, 2000/r.Metrics["null_sink_records_per_second"], r.Metrics["null_sink_offered_ratio"])
		}},
		{"one caller", strings.Replace(tinyLoad, "  streams: 2\n", "  method: unary\n", 1) +
			"ceilings: [empty_handler, raw_disk]\nceiling_duration: 200ms\n", func(t *testing.T, r results.Repetition) {
			require.Equal(t, []string{"empty_handler", "raw_disk", "raw_disk"}, kindsOf(r.Ceilings))
			requireRatio(t, r, "empty_handler")
			require.Positive(t, r.Metrics["idle_ack_ratio"])
		}},
		{"beside a neighbour", tinyLoad + "neighbour: {batch_records: 50, records_per_second: 5000}\n", func(t *testing.T, r results.Repetition) {
			require.Positive(t, r.Metrics["neighbour_acked_records_per_second"])
			require.Zero(t, r.Metrics["neighbour_failed_batches"])
		}},
		{"drained", tinyLoad + "actions:\n  - {at: 400ms, do: drain}\n  - {at: 500ms, do: restart}\n", func(t *testing.T, r results.Repetition) {
			require.Positive(t, r.Metrics["recovery_ready_ns"])
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var console bytes.Buffer
			list := []*scenarios.Scenario{scenarioFrom(t, test.text)}
			dir := workDir(t)
			result, err := Run(t.Context(), Options{Scenarios: list, Server: serverBinary, WorkDir: dir, Console: NewConsole(&console, false, list)})
			require.NoError(t, err, console.String())
			require.Equal(t, results.Pass, result.Verdict.State, result.Scenarios)
			require.True(t, result.Verify.Checked)
			acked := 2000
			if list[0].Neighbour != nil {
				acked += int(list[0].Neighbour.RecordsPerSecond) // for one second
			}
			require.EqualValues(t, acked, result.Verify.Acked)
			require.Positive(t, result.Env.FdatasyncP50Nanos)
			test.check(t, result.Scenarios[0].Repetitions[0])
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left, "nothing is left of a good repetition")
		})
	}
}

func TestVariantsRunInTurnOnServersOfTheirOwn(t *testing.T) {
	text := strings.NewReplacer("200ms", "50ms", "800ms", "150ms").Replace(tinyLoad) + `repetitions: 2
variants:
  - {name: direct, server: {wal: {direct_io: auto}}}
  - {name: cached, server: {wal: {direct_io: "off"}}}
`
	var console bytes.Buffer
	list := []*scenarios.Scenario{scenarioFrom(t, text)}
	result, err := Run(t.Context(), Options{Scenarios: list, Server: serverBinary, WorkDir: workDir(t), Console: NewConsole(&console, false, list)})
	require.NoError(t, err, console.String())
	require.Equal(t, results.Pass, result.Verdict.State, result.Scenarios)
	var names []string
	for _, scenario := range result.Scenarios {
		names = append(names, scenario.Name)
		require.Len(t, scenario.Repetitions, 2)
	}
	require.Equal(t, []string{"tiny/direct", "tiny/cached", "tiny/again"}, names)
	require.Regexp(t, `(?s)direct 1/2.*cached 1/2.*again 1/2.*again 2/2.*cached 2/2.*direct 2/2`, console.String())
}

// requireFlushedLater wants to see that the log held everything until another start.
func requireFlushedLater(t *testing.T, r results.Repetition) {
	require.Positive(t, r.Metrics["recovery_ready_ns"])
	require.EqualValues(t, 2000, r.Metrics["backlog_peak_records"])
	require.Positive(t, r.Metrics["recovery_rss_peak_bytes"])
	require.Positive(t, r.Metrics["drain_ns"])
	require.Positive(t, r.Metrics["verified_records"])
}

func requireRatio(t *testing.T, r results.Repetition, kind string) {
	t.Helper()
	require.Positive(t, r.Metrics[kind+"_records_per_second"])
	require.InEpsilon(t, r.Metrics["acked_records_per_second"]/r.Metrics[kind+"_records_per_second"], r.Metrics[kind+"_ratio"], 1e-9)
}

func kindsOf(ceilings []results.Ceiling) []string {
	var kinds []string
	for _, ceiling := range ceilings {
		kinds = append(kinds, ceiling.Kind)
	}
	return kinds
}

func ackLevelsOf(ceilings []results.Ceiling) []string {
	var levels []string
	for _, ceiling := range ceilings {
		levels = append(levels, ceiling.AckLevel)
	}
	return levels
}

func TestRunReportsAServerThatRefusesItsConfig(t *testing.T) {
	list := []*scenarios.Scenario{scenarioFrom(t, tinyLoad+"server:\n  wal: {no_such_key: 1}\n")}
	var console bytes.Buffer
	_, err := Run(t.Context(), Options{Scenarios: list, Server: serverBinary, WorkDir: workDir(t), Console: NewConsole(&console, false, list)})
	require.ErrorContains(t, err, "no_such_key")
}

func TestRunEndsCleanlyWhenInterrupted(t *testing.T) {
	list := []*scenarios.Scenario{scenarioFrom(t, tinyLoad)}
	list[0].Load.Phases[1].Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	console := NewConsole(writerFunc(func(text string) {
		// The first progress line that says so comes while the measured load runs.
		if strings.Contains(text, "measured: ") && strings.Contains(text, "backlog") {
			cancel()
		}
	}), true, list)
	result, err := Run(ctx, Options{Scenarios: list, Server: serverBinary, WorkDir: workDir(t), Console: console})
	require.NoError(t, err)
	require.Equal(t, results.ExitInterrupted, result.Verdict.ExitCode)
	require.Len(t, result.Scenarios[0].Repetitions, 1, "what was measured until then is kept")
	repetition := result.Scenarios[0].Repetitions[0]
	require.Regexp(t, `^interrupted after .* of 1h0m0s$`, repetition.Invalid[0])
	require.Positive(t, repetition.Metrics["acked_records_per_second"])
	require.True(t, repetition.Verify.Checked)
	require.True(t, repetition.Verify.Intact(), repetition.Verify.Faults())
	require.Positive(t, repetition.Verify.Acked)
	require.NotEmpty(t, repetition.Histograms["server_commit"])
}

// TestAnInterruptBeforeAnythingWasMeasuredLeavesNothing: during the warm-up.
func TestAnInterruptBeforeAnythingWasMeasuredLeavesNothing(t *testing.T) {
	list := []*scenarios.Scenario{scenarioFrom(t, tinyLoad)}
	list[0].Load.Phases[0].Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	console := NewConsole(writerFunc(func(text string) {
		if strings.Contains(text, "in flight") {
			cancel()
		}
	}), true, list)
	dir := workDir(t)
	result, err := Run(ctx, Options{Scenarios: list, Server: serverBinary, WorkDir: dir, Console: console})
	require.NoError(t, err)
	require.Equal(t, results.ExitInterrupted, result.Verdict.ExitCode)
	require.Empty(t, result.Scenarios[0].Repetitions)
}

func TestRunRefusesAFileSystemInMemory(t *testing.T) {
	list := []*scenarios.Scenario{scenarioFrom(t, tinyLoad)}
	_, err := Run(t.Context(), Options{Scenarios: list, Server: "unused", WorkDir: "/dev/shm", Console: NewConsole(&bytes.Buffer{}, false, list)})
	require.ErrorContains(t, err, "file system in memory")
}

type writerFunc func(string)

func (f writerFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}
