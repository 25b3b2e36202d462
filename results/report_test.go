package results

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// keepReports names a directory that the test writes its pages to, for a look in a browser.
const keepReports = "RESULTS_TEST_KEEP"

func TestHTMLIsWellFormedAndSelfContained(t *testing.T) {
	for name, factor := range map[string]float64{"pass": 1, "fail": 4} {
		result := sampleResult(t, factor)
		var page bytes.Buffer
		require.NoError(t, WriteHTML(&page, result))
		if dir := os.Getenv(keepReports); dir != "" {
			require.NoError(t, os.WriteFile(dir+"/"+name+".html", page.Bytes(), 0o644))
		}
		requireWellFormed(t, page.Bytes())
		require.NotRegexp(t, regexp.MustCompile(`(?i)https?://|src=|@import|url\(|<script`), page.String(), "nothing comes from elsewhere")
		require.Contains(t, page.String(), "prefers-color-scheme: dark")
		require.Contains(t, page.String(), "&lt;angle brackets&gt; &amp; an ampersand")
		require.Equal(t, 2*5, strings.Count(page.String(), "<svg "), "percentiles, dots and three timelines for each scenario")
		require.Equal(t, 12+2, strings.Count(page.String(), `<circle class="dot`), "a dot for each repetition and objective with a limit")
		require.NotContains(t, page.String(), "NaN")
	}
}

// requireWellFormed holds the page to XML's rules, apart from the doctype.
func requireWellFormed(t *testing.T, page []byte) {
	t.Helper()
	decoder := xml.NewDecoder(bytes.NewReader(page))
	decoder.Entity = xml.HTMLEntity
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestHTMLOfAnInterruptedRun(t *testing.T) {
	result := &Result{Scenarios: []Scenario{{Name: "s", Objectives: []Objective{{Metric: "commit_p99_ns", Unit: "ns", Op: "<", Limit: 1}}}}}
	JudgeScenario(&result.Scenarios[0])
	JudgeRun(result, true)
	var page bytes.Buffer
	require.NoError(t, WriteHTML(&page, result))
	requireWellFormed(t, page.Bytes())
	require.Contains(t, page.String(), "Interrupted")
}

func TestMarkdown(t *testing.T) {
	var page bytes.Buffer
	require.NoError(t, WriteMarkdown(&page, sampleResult(t, 1)))
	for _, want := range []string{
		"# PASS\n\nAll 6 objectives met; 61600000 acked records read back, each stored exactly once. Skipped: metrics-timescale.",
		"| ingest-1m | `commit_p99_ns` | 0.60 ms | < 1 ms | +40% | **PASS** | wal_synced | stream, rows, prepared, 1000 a batch |",
		"| metrics-timescale | no PostgreSQL on this machine | | | | SKIPPED | | |",
		"fdatasync of 4 KiB p50 98.0 us p99 0.41 ms",
		"bin/bench run scenarios/ingest-1m.yaml",
	} {
		require.Contains(t, page.String(), want)
	}
}

func TestTableNamesAckLevelAndDiskBesideTheRate(t *testing.T) {
	var table bytes.Buffer
	require.NoError(t, WriteTable(&table, sampleResult(t, 4)))
	require.Regexp(t, `ingest-1m +acked_records_per_second +275.0k records/s.* +>= 1.00M records/s +FAIL +wal_synced +stream`, table.String())
	require.Contains(t, table.String(), "fdatasync of 4 KiB p50 98.0 us p99 0.41 ms")
	require.Contains(t, table.String(), "FAIL: Did not pass: ingest-1m, smoke.")
}

func TestAUnitThatAllShareStandsOnce(t *testing.T) {
	for _, test := range []struct {
		unit              string
		median, low, high float64
		want              string
	}{
		{"ns", 1.04e6, 0.96e6, 1.1e6, "1.04 ms [0.96 to 1.10]"},
		{"ns", 1.04e6, 0.96e6, 1.1e9, "1.04 ms [0.96 ms to 1.10 s]"},
		{"records/s", 1.1e6, 1.05e6, 1.2e6, "1.10M records/s [1.05M to 1.20M]"},
		{"ratio", 0.5, 0.4, 0.6, "0.500 [0.400 to 0.600]"},
		{"%", 5, 5, 5, "5.0%"},
	} {
		o := Objective{Unit: test.unit, Median: &test.median, Low: &test.low, High: &test.high}
		require.Equal(t, test.want, o.Figure())
	}
}
