package results

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// sampleSearch rises slowly up to 800,000 records/s and steeply above.
func sampleSearch() *Search {
	search := &Search{PrecisionPct: 5, Highest: 9e5, Confirmations: 3, Limit: 9.4e5, LimitReason: "response_p99_ns: 40 ms, must be < 10 ms"}
	for _, p := range []struct{ rate, p99 float64 }{{1e5, 0.6e6}, {2e5, 0.7e6}, {4e5, 0.9e6}, {8e5, 1.4e6}, {1.6e6, 9e8}, {1.13e6, 5e8}, {9.4e5, 40e6}, {9e5, 8e6}} {
		state := Pass
		if p.rate > 9e5 {
			state = Fail
		}
		search.Probes = append(search.Probes, Probe{OfferedRate: p.rate, Step: "bisect", State: state, AckedRate: p.rate, P50Nanos: int64(p.p99 / 3), P99Nanos: int64(p.p99)})
	}
	for range 3 {
		search.Probes = append(search.Probes, Probe{OfferedRate: 9e5, Step: "confirm", State: Pass, AckedRate: 9e5, P50Nanos: 3e6, P99Nanos: 9e6})
	}
	return search
}

func TestKneeIsWhereLatencyTurns(t *testing.T) {
	require.InDelta(t, 8e5, sampleSearch().Knee(), 1)
	flat := &Search{Probes: sampleSearch().Probes[:3]}
	require.Zero(t, flat.Knee(), "too few rates")
}

func TestReportOfASearch(t *testing.T) {
	result := sampleResult(t, 1)
	result.Scenarios[0].Search = sampleSearch()
	result.Scenarios[0].Reasons = []string{result.Scenarios[0].Search.Sentence()}
	var page bytes.Buffer
	require.NoError(t, WriteHTML(&page, result))
	requireWellFormed(t, page.Bytes())
	require.Contains(t, page.String(), "Latency against rate")
	require.Contains(t, page.String(), "holds up to 900.0k")
	require.Contains(t, page.String(), "knee 800.0k")
	if dir := os.Getenv(keepReports); dir != "" {
		require.NoError(t, os.WriteFile(dir+"/search.html", page.Bytes(), 0o644))
	}
	page.Reset()
	require.NoError(t, WriteMarkdown(&page, result))
	require.Contains(t, page.String(), "| 940.0k records/s | 940.0k records/s | 13.33 ms | 40 ms | FAIL | bisect |")
	require.Contains(t, page.String(), "hold up to 900.0k records/s offered, confirmed 3 times; at 940.0k records/s they do not")
	page.Reset()
	require.NoError(t, WriteTable(&page, result))
	require.Contains(t, page.String(), "the knee of p99 over the rate is near 800.0k records/s")

	schema, err := jsonschema.NewCompiler().Compile("schema.json")
	require.NoError(t, err)
	encoded, err := json.Marshal(result)
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(document))
}
