package results

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

func TestSaveAndLoadRoundTrip(t *testing.T) {
	dir := t.TempDir()
	want := sampleResult(t, 1)
	require.NoError(t, want.Save(dir))
	got, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, want, got)
	got, err = Load(filepath.Join(dir, FileName))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestLoadRefusesAnotherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	require.NoError(t, os.WriteFile(path, []byte(`{"schema_version": 99}`), 0o644))
	_, err := Load(path)
	require.ErrorContains(t, err, "schema_version 99")
}

func TestResultsFollowTheSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("schema.json")
	require.NoError(t, err)
	interrupted := &Result{SchemaVersion: SchemaVersion, Command: []string{"bench"}, Scenarios: []Scenario{}}
	JudgeRun(interrupted, true)
	for _, result := range []*Result{sampleResult(t, 1), sampleResult(t, 10), interrupted} {
		encoded, err := json.Marshal(result)
		require.NoError(t, err)
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
		require.NoError(t, err)
		require.NoError(t, schema.Validate(document))
	}
}

func TestDurationsAreIntegersInJSON(t *testing.T) {
	encoded, err := json.Marshal(map[string]float64{"commit_p99_ns": 123_456_789_012})
	require.NoError(t, err)
	require.JSONEq(t, `{"commit_p99_ns": 123456789012}`, string(encoded))
	require.NotContains(t, string(encoded), "e")
}

func TestHistogramsMergeOverValidRepetitions(t *testing.T) {
	scenario := sampleScenario(t, "x", 3, 1)
	scenario.Repetitions[1].Invalid = []string{"steal"}
	merged, err := MergeHistograms(scenario.Repetitions, "server_commit")
	require.NoError(t, err)
	require.EqualValues(t, 40_000, merged.TotalCount())
	merged, err = MergeHistograms(scenario.Repetitions, "absent")
	require.NoError(t, err)
	require.Nil(t, merged)
}

func TestFormatValue(t *testing.T) {
	for _, test := range []struct {
		value float64
		unit  string
		want  string
	}{
		{812, "ns", "812 ns"}, {45_600, "ns", "45.6 us"}, {1_000_000, "ns", "1 ms"}, {850_000, "ns", "0.85 ms"}, {2.5e9, "ns", "2.50 s"},
		{1_100_000, "records/s", "1.10M records/s"}, {26_040, "records/s", "26.0k records/s"}, {0, "records", "0 records"},
		{3.25, "%", "3.2%"}, {0.987, "ratio", "0.987"}, {1 << 20, "bytes", "1.0 MiB"}, {0, "code", "0"}, {17, "bytes", "17 B"},
	} {
		require.Equal(t, test.want, FormatValue(test.value, test.unit))
	}
}

func TestAckLevelSeen(t *testing.T) {
	require.Equal(t, "none seen", AckLevelSeen(nil, "none seen"))
	require.Equal(t, "none seen", AckLevelSeen([]Repetition{{AckLevel: "none"}, {}}, "none seen"))
	require.Equal(t, "wal_synced", AckLevelSeen([]Repetition{{AckLevel: "wal_synced"}, {AckLevel: "none"}, {AckLevel: "wal_synced"}}, ""))
	require.Equal(t, "wal_synced; buffered", AckLevelSeen([]Repetition{{AckLevel: "wal_synced"}, {AckLevel: "buffered"}}, ""))
}

// TestLoadReadsTheFirstVersion: the committed runs of the past stay readable.
func TestLoadReadsTheFirstVersion(t *testing.T) {
	result, err := Load("20261126T001945Z-eef5c3d894")
	require.NoError(t, err)
	require.Equal(t, 1, result.SchemaVersion)
	require.NotEmpty(t, result.Scenarios)
}
