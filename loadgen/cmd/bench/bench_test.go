package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/replay"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

func execute(t *testing.T, args ...string) int {
	t.Helper()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(t.Output())
	root.SetErr(t.Output())
	return exitCode(root.ExecuteContext(t.Context()))
}

func TestExitCodes(t *testing.T) {
	require.Equal(t, 0, exitCode(nil))
	require.Equal(t, 99, exitCode(&exitError{code: 99}))
	require.Equal(t, results.ExitBadInput, exitCode(errors.New("no such file")))

	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("name: bad\n"), 0o644))
	for _, args := range [][]string{
		{"nonsense"}, {"run", "--nonsense"}, {"run", bad}, {"run", "absent.yaml"}, {"run", "smoke", "--server", "/nonexistent"},
		{"run", "--set", "cold"}, {"search"}, {"search", "absent.yaml"}, {"search", "smoke", "--from", "10", "--to", "5"}, {"search", "smoke", "--probe", "0s"}, {"search", "smoke", "--server", "/nonexistent"},
		{"compare", "one"}, {"report", t.TempDir()}, {"verify"}, {"verify", "--ledger", "x"}, {"verify", "--ledger", "x", "--metrics"},
		{"schema", "load"}, {"load", "--ack-level", "perhaps"}, {"load", "--insecure"}, {"load", "--batch", "-1"}, {"load", "--tls-ca", bad},
	} {
		require.Equal(t, results.ExitBadInput, execute(t, args...), args)
	}
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, {"version"}, {"list"}, {"list", "--metrics"}, {"schema"}, {"schema", "result"}} {
		require.Equal(t, 0, execute(t, args...), args)
	}
}

func TestLoadScenariosReportsEveryFile(t *testing.T) {
	list, err := loadScenarios(scenarios.Names())
	require.NoError(t, err)
	require.Len(t, list, len(scenarios.Names()))
	_, err = loadScenarios([]string{"smoke", "absent-1.yaml", "absent-2.yaml"})
	require.ErrorContains(t, err, "absent-1.yaml")
	require.ErrorContains(t, err, "absent-2.yaml")
}

func TestLoadFlagsBecomeAConfig(t *testing.T) {
	flags := loadFlags{
		apiKey: "ik_x", tenant: "acme", ackLevel: "committed", endpoints: 3, rate: 500, arrivals: "poisson",
		duration: 10 * time.Second, warmUp: time.Second, method: "unary", layout: "columns", client: "live", useTLS: true, insecure: true,
	}
	config := engine.Config{Target: "host:1", Seed: 7}
	require.NoError(t, flags.complete(&config))
	require.NoError(t, config.Validate())
	require.Equal(t, []engine.Tenant{{ID: "acme", APIKey: "ik_x"}}, config.Tenants)
	require.Equal(t, storagepb.AckLevel_ACK_LEVEL_COMMITTED, config.AckLevel)
	require.Len(t, config.Endpoints, 3)
	require.Equal(t, uint64(7), config.Spec.Seed)
	require.NotZero(t, config.RunID)
	require.True(t, config.TLS.InsecureSkipVerify)
	require.Equal(t, []engine.Phase{
		{Name: "warm-up", Duration: time.Second, RecordsPerSecond: 500, Arrivals: engine.Poisson, Warmup: true},
		{Name: "measured", Duration: 10 * time.Second, RecordsPerSecond: 500, Arrivals: engine.Poisson},
	}, config.Phases)
	require.Equal(t, replay.Pace{RecordsPerSecond: 500}, flags.pace())
	flags.rate, flags.timeScale = 0, 2
	require.Equal(t, replay.Pace{TimeScale: 2}, flags.pace())
}

func TestCompareFailsOnWorseWhereAsked(t *testing.T) {
	save := func(first float64) string {
		dir := t.TempDir()
		scenario := results.Scenario{Name: "s", Objectives: []results.Objective{{Metric: "commit_p99_ns"}}}
		for i := range 5 {
			scenario.Repetitions = append(scenario.Repetitions, results.Repetition{Metrics: map[string]float64{"commit_p99_ns": first + float64(i)}})
		}
		require.NoError(t, (&results.Result{SchemaVersion: results.SchemaVersion, Scenarios: []results.Scenario{scenario}}).Save(dir))
		return dir
	}
	fast, slow := save(100), save(200)
	require.Equal(t, 0, execute(t, "compare", fast, slow))
	require.Equal(t, results.ExitFail, execute(t, "compare", fast, slow, "--fail-on-worse"))
	require.Equal(t, 0, execute(t, "compare", slow, fast, "--fail-on-worse"))
}

func TestExportsTrendAndStepSummary(t *testing.T) {
	dir, summary := t.TempDir(), filepath.Join(t.TempDir(), "summary.md")
	result := &results.Result{SchemaVersion: results.SchemaVersion, Scenarios: []results.Scenario{{
		Name: "s", State: results.Pass, Objectives: []results.Objective{{Metric: "commit_p99_ns"}},
		Repetitions: []results.Repetition{{Metrics: map[string]float64{"commit_p99_ns": 5}}},
	}}}
	require.NoError(t, result.Save(dir))
	for _, args := range [][]string{{"export", dir, "--benchstat"}, {"export", dir, "--hlog", dir}, {"trend", dir}, {"trend", dir, dir, "--changes"}} {
		require.Equal(t, 0, execute(t, args...), args)
	}
	require.FileExists(t, filepath.Join(dir, "s.hlog"))
	for _, args := range [][]string{{"export", dir}, {"export", dir, "--hlog", filepath.Join(dir, "absent")}, {"trend", summary}} {
		require.Equal(t, results.ExitBadInput, execute(t, args...), args)
	}
	require.NoError(t, appendStepSummary("", result))
	require.NoError(t, appendStepSummary(summary, result))
	require.NoError(t, appendStepSummary(summary, result))
	content, err := os.ReadFile(summary)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(content), "| Scenario | Objective |"), "appended, not replaced")
}

func TestCompareRefusesUnlikeMachines(t *testing.T) {
	save := func(kernel string) string {
		dir := t.TempDir()
		result := &results.Result{SchemaVersion: results.SchemaVersion, Env: results.Environment{Kernel: kernel}}
		require.NoError(t, result.Save(dir))
		return dir
	}
	base, same, other := save("6.1"), save("6.1"), save("6.2")
	require.Equal(t, 0, execute(t, "compare", base, same))
	require.Equal(t, results.ExitBadInput, execute(t, "compare", base, other))
	require.Equal(t, 0, execute(t, "compare", base, other, "--force"))
	require.Equal(t, 0, execute(t, "compare", base, same, "--", base))
	for _, args := range [][]string{
		{base, same, base}, {"--", base, same}, {base, same, "--"}, {base, same, "--margin", "-1"}, {base, "--", same, other},
	} {
		require.Equal(t, results.ExitBadInput, execute(t, append([]string{"compare"}, args...)...), args)
	}
}
