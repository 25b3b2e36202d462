package scenarios

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/loadgen/engine"
)

func TestShippedScenariosAreValid(t *testing.T) {
	for _, name := range allNames() {
		t.Run(name, func(t *testing.T) {
			scenario, err := LoadFile(name)
			require.NoError(t, err)
			require.Equal(t, name, scenario.Name)
			require.True(t, scenario.VerifyStored())
			require.True(t, scenario.Durable())
		})
	}
	for _, s := range sets {
		files, err := filepath.Glob(filepath.Join(s.directory, "*.yaml"))
		require.NoError(t, err)
		require.Len(t, files, len(Set(s.name)), "every file is in the set %s", s.name)
	}
}

func TestTargetsAreMeasuredUnderRulesAndLogsHaveRoom(t *testing.T) {
	for _, name := range append(Set("hot"), Set("sustained")...) {
		scenario, err := Shipped(name)
		require.NoError(t, err)
		require.Equal(t, 5.0, *scenario.Validity.MaxStealPct, name)
		require.Equal(t, 15.0, *scenario.Validity.MaxOtherCPUPct, name)
		require.NotEmpty(t, scenario.Ceilings, name)
		hasTarget := func(o Objective) bool { return o.Target != "" }
		require.True(t, slices.ContainsFunc(scenario.Objectives, hasTarget), name)
		require.Equal(t, scenario.Paused(), scenario.End == Kill, "%s: what is only in the log must survive a crash", name)
	}
}

func TestSets(t *testing.T) {
	require.Equal(t, []string{"default", "hot", "sustained"}, SetNames())
	require.Nil(t, Set("cold"))
	scenario, err := LoadFile("max-rows")
	require.NoError(t, err)
	require.Equal(t, "scenarios/hot/max-rows.yaml", scenario.File)
	_, err = LoadFile("max-row")
	require.ErrorContains(t, err, `did you mean "max-rows"?`)
}

func TestDefaultSetFitsIntoThreeMinutes(t *testing.T) {
	total := time.Duration(0)
	for _, name := range Names() {
		scenario, err := Shipped(name)
		require.NoError(t, err)
		for _, phase := range scenario.Load.Phases {
			total += phase.Duration * time.Duration(scenario.Repetitions)
		}
	}
	// The rest of the three minutes is for starting, draining and verifying.
	require.Less(t, total, 100*time.Second)
}

const valid = `name: mine
description: Mine.
load:
  endpoints: 2
  phases:
    - {duration: 1s, records_per_second: 1_000}
objectives:
  - {metric: commit_p99_ns, op: "<", limit: 1ms, unit: ns}
  - {metric: acked_records_per_second, op: ">=", limit: 900}
`

func loadText(t *testing.T, text string) (*Scenario, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mine.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	scenario, err := LoadFile(path)
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", ""))
	}
	return scenario, err
}

func TestLoadSetsDefaults(t *testing.T) {
	scenario, err := loadText(t, valid)
	require.NoError(t, err)
	require.Equal(t, 1, scenario.Repetitions)
	require.Equal(t, "wal_synced", scenario.Load.AckLevel)
	require.Equal(t, "stream, rows, prepared, 1000 a batch", scenario.Load.Words())
	require.InDelta(t, 1000, scenario.Load.OfferedRate(), 0)
	require.Equal(t, Objective{Metric: "commit_p99_ns", Op: "<", Limit: 1_000_000, Unit: "ns"}, scenario.Objectives[0])
	require.Equal(t, "records/s", scenario.Objectives[1].Unit)
	require.Equal(t, 4*time.Second, scenario.Load.Window(), "four batches of 1,000 at 1,000 a second")
	config := scenario.Load.EngineConfig()
	require.Len(t, config.Endpoints, 2)
	require.Equal(t, time.Second, config.Phases[0].Duration)
	require.Equal(t, Drain, scenario.End)
	require.Equal(t, time.Second, scenario.CeilingLength(), "the measured phases'")
	require.False(t, scenario.FlushedLater())
}

func TestCeilingsTargetsAndEnd(t *testing.T) {
	scenario, err := loadText(t, strings.Replace(valid, "limit: 1ms, unit: ns}", "limit: 1ms, target: commit, compare: others}", 1)+
		"  - {metric: null_sink_ratio, op: \">\", limit: 0.5}\n"+
		"server: {processor: {paused: true}}\nend: kill\nceilings: [null_sink, raw_disk, single_pair]\nceiling_duration: 250ms\n"+
		"validity: {max_offered_ratio: 0.5}\n")
	require.NoError(t, err)
	require.Equal(t, []string{"null_sink", "raw_disk", "single_pair"}, scenario.Ceilings)
	require.Equal(t, 250*time.Millisecond, scenario.CeilingLength())
	require.Equal(t, Objective{Metric: "commit_p99_ns", Op: "<", Limit: 1_000_000, Unit: "ns", Target: "commit", Compare: "others"}, scenario.Objectives[0])
	require.True(t, scenario.Paused())
	require.True(t, scenario.FlushedLater())
	require.Equal(t, 0.5, *scenario.Validity.MaxOfferedRatio)
}

func TestNeighbourRunsBesideTheLoad(t *testing.T) {
	scenario, err := loadText(t, valid+"neighbour: {streams: 3, batch_records: 50, tenants: 2}\n")
	require.NoError(t, err)
	config := scenario.Load.EngineConfig()
	neighbour := scenario.NeighbourConfig(config)
	require.Equal(t, []engine.Tenant{{ID: "neighbour-000"}, {ID: "neighbour-001"}}, neighbour.Tenants)
	require.Equal(t, len(config.Tenants), neighbour.FirstTenant)
	require.Equal(t, config.Producers(), neighbour.FirstProducer)
	require.Equal(t, 6, neighbour.Producers())
	require.Equal(t, engine.Rows, neighbour.Layout)
	require.Equal(t, config.Endpoints, neighbour.Endpoints)
	require.Equal(t, []engine.Phase{{Duration: time.Second}}, neighbour.Phases, "as long as the load, and as fast as it can")
	_, err = loadText(t, strings.Replace(valid, "load:", "load:\n  method: metrics", 1)+"neighbour: {}\n")
	require.ErrorContains(t, err, "a neighbour needs a load of synthetic records")
}

func TestErrorsNameFileLineAndSuggestion(t *testing.T) {
	replace := func(old, replacement string) string {
		require.Contains(t, valid, old)
		return strings.Replace(valid, old, replacement, 1)
	}
	tests := []struct{ name, text, want string }{
		{"unknown key at the top", replace("load:", "lod: {}\nload:"), `mine.yaml:3: unknown key "lod"; did you mean "load"?`},
		{"unknown key inside", replace("  endpoints: 2", "  endponts: 2"), `mine.yaml:4: unknown key "endponts"; did you mean "endpoints"?`},
		{"unknown key in a list", replace("{duration: 1s,", "{duraton: 1s,"), `mine.yaml:6: unknown key "duraton"; did you mean "duration"?`},
		{"nothing near", replace("  endpoints: 2", "  colour: blue"), `mine.yaml:4: unknown key "colour"`},
		{"wrong type", replace("endpoints: 2", "endpoints: two"), `mine.yaml:4: load.endpoints: got string, want integer`},
		{"bad duration", replace("duration: 1s", "duration: 1 second"), `mine.yaml:6: load.phases.0.duration`},
		{"bad limit", replace("limit: 1ms", "limit: fast"), `mine.yaml:8: objectives.0.limit must be a number or a duration`},
		{"bad op", replace(`op: ">="`, `op: "=>"`), `mine.yaml:9: objectives.1.op is "=>", must be one of <, <=, ==, >=, >`},
		{"unknown metric", replace("commit_p99_ns", "comit_p99_ns"), `mine.yaml:8: unknown metric "comit_p99_ns"; did you mean "commit_p99_ns"?`},
		{"wrong unit", replace("unit: ns", "unit: ms"), `mine.yaml:8: the unit of commit_p99_ns is "ns"`},
		{"name of another file", replace("name: mine", "name: other"), `mine.yaml:1: name is "other", the file is mine.yaml`},
		{"missing part", replace("description: Mine.\n", ""), `mine.yaml:1: the scenario: missing property 'description'`},
		{"only a warm-up", replace("{duration: 1s,", "{duration: 1s, warm_up: true,"), `mine.yaml:3: no phase is measured`},
		{"impossible load", replace("  endpoints: 2", "  endpoints: 2\n  connections: 20000"), `mine.yaml:3: engine: 20000 producers`},
		{"duplicate key", replace("  endpoints: 2", "  endpoints: 2\n  endpoints: 3"), `mine.yaml:5: `},
		{"no YAML", "name: [", `mine.yaml:1: `},
		{"empty", "", `mine.yaml:1: must hold one YAML document`},
		{"restart of a running server", valid + "actions:\n  - {at: 1s, do: restart}\n", `mine.yaml:11: restart is not possible here: the server is running`},
		{"left stopped", valid + "actions:\n  - {at: 1s, do: kill}\n", `mine.yaml:10: the last action leaves the server stopped`},
		{"disordered", valid + "actions:\n  - {at: 2s, do: kill}\n  - {at: 1s, do: restart}\n", `mine.yaml:12: actions must be in the order`},
		{"unknown ceiling", valid + "ceilings: [raw_disc]\n", `mine.yaml:10: ceilings.0 is "raw_disc", must be one of null_sink, empty_handler, raw_disk, single_pair, read_log; did you mean "raw_disk"?`},
		{"ceiling of another method", valid + "ceilings:\n  - raw_disk\n  - empty_handler\n", `mine.yaml:12: empty_handler needs load.method: unary`},
		{"ceiling of metrics", replace("  endpoints: 2", "  method: metrics") + "ceilings: [null_sink]\n", `mine.yaml:10: null_sink needs a load of synthetic records`},
		{"a single pair alone", replace("  endpoints: 2\n", "") + "ceilings: [single_pair]\n", `mine.yaml:9: single_pair has a meaning only`},
		{"ceiling of no length", replace("duration: 1s,", "records: 9,") + "ceilings: [null_sink]\n", `mine.yaml:10: the measured phases have no duration`},
		{"log that is not read", valid + "ceilings: [read_log]\n", `mine.yaml:10: read_log needs a log that is replayed after the load`},
		{"ceiling not taken", valid + "  - {metric: idle_ack_ratio, op: \"<\", limit: 1}\nceilings: [raw_disk]\n", `mine.yaml:10: idle_ack_ratio needs empty_handler among the ceilings`},
		{"comparison without a target", replace("limit: 1ms,", "limit: 1ms, compare: others,"), `mine.yaml:8: compare stands in the table of targets, so it needs target`},
		{"offered ratio of nothing", valid + "validity: {max_offered_ratio: 0.5}\n", `mine.yaml:10: max_offered_ratio needs an open loop, and null_sink`},
		{"misspelt value", valid + "end: kil\n", `mine.yaml:10: end is "kil", must be one of drain, kill; did you mean "kill"?`},
		{"another version", valid + "schema_version: 2\n", `mine.yaml:10: schema_version is 2, this program reads 1`},
		{"unknown end", valid + "end: crash\n", `mine.yaml:10: end is "crash", must be one of drain, kill`},
		{"replay of nothing", replace("  endpoints: 2", "  client: live\n  replay: {file: absent.csv}"), `mine.yaml:5: stat absent.csv`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := loadText(t, test.text)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestAllProblemsAreReportedAtOnceInTheOrderOfLines(t *testing.T) {
	text := strings.NewReplacer("endpoints: 2", "endponts: 2", "description:", "descript:").Replace(valid)
	_, err := loadText(t, text)
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 3)
	require.Contains(t, lines[0], "mine.yaml:1: the scenario: missing property 'description'")
	require.Contains(t, lines[1], `mine.yaml:2: unknown key "descript"`)
	require.Contains(t, lines[2], `mine.yaml:4: unknown key "endponts"`)
}

// TestTheTutorialsScenarioIsValid: what the page tells readers to save must load, and must compare what it says.
func TestTheTutorialsScenarioIsValid(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "tutorial-tuning.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```yaml\n")
	require.True(t, found)
	text, _, found := strings.Cut(rest, "```\n")
	require.True(t, found)
	path := filepath.Join(t.TempDir(), "direct-io.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	scenario, err := LoadFile(path)
	require.NoError(t, err)
	require.Len(t, scenario.Variations(), 3)
	require.GreaterOrEqual(t, scenario.Repetitions, 6)
}

// TestTheSchemaDocumentsItself: every key at the top, of the load, the validity rules and the objectives says what it means, or is
// of a kind that does.
func TestTheSchemaDocumentsItself(t *testing.T) {
	var document map[string]any
	require.NoError(t, json.Unmarshal(SchemaText(), &document))
	require.Contains(t, document["$comment"], "Version 1")
	for key, value := range document["properties"].(map[string]any) {
		object := value.(map[string]any)
		described := object["description"] != nil || object["$ref"] != nil || key == "objectives"
		require.True(t, described, key)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := LoadFile(filepath.Join(t.TempDir(), "absent.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestCopyRecording(t *testing.T) {
	scenario, err := Shipped("replay-recorded")
	require.NoError(t, err)
	path, err := scenario.CopyRecording(t.TempDir())
	require.NoError(t, err)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		var row map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &row))
		require.Contains(t, row, scenario.Load.Replay.TimestampColumn)
		require.Contains(t, row, scenario.Load.Replay.EndpointColumn)
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "abc", 3}, {"kitten", "sitting", 3}, {"load", "load", 0}, {"lod", "load", 1}} {
		require.Equal(t, test.want, editDistance(test.a, test.b), "%s %s", test.a, test.b)
	}
}

// TestLoadSHA256 tells loads apart, and not what may differ between runs that are compared.
func TestLoadSHA256(t *testing.T) {
	of := func(text string) string {
		scenario, err := loadText(t, text)
		require.NoError(t, err)
		return scenario.LoadSHA256()
	}
	want := of(valid)
	require.Equal(t, want, of(valid))
	require.Equal(t, want, of(valid+"server: {wal: {direct_io: \"off\"}}\nrepetitions: 5\n"), "what may be compared")
	require.NotEqual(t, want, of(strings.Replace(valid, "1_000", "2_000", 1)))
	require.NotEqual(t, want, of(valid+"end: kill\n"))
}
