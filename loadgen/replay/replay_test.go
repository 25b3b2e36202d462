package replay

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ engine.Script = (*Script)(nil)

const csvText = `time,host,load,name,up
2026-03-01T10:00:00.5Z,a,0.25,"x, y",true
2026-03-01T10:00:01Z,b,1e3,007,false
2026-03-01T10:00:02Z,a,,z,true
`

const ndjsonText = `{"time":1772359200.5,"host":"a","load":0.25,"name":"x, y","up":true}
{"time":1772359201,"host":"b","load":1e3,"name":"007","up":false}

{"time":1772359202000,"host":"a","name":"z","up":true}
`

func textFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

type parquetRow struct {
	Time time.Time `parquet:"time,timestamp(microsecond)"`
	Host string    `parquet:"host"`
	Load *float64  `parquet:"load,optional"`
	Name string    `parquet:"name"`
	Up   bool      `parquet:"up"`
}

func parquetFile(t *testing.T) string {
	t.Helper()
	start := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	quarter, thousand := 0.25, 1e3
	path := filepath.Join(t.TempDir(), "x.parquet")
	require.NoError(t, parquet.WriteFile(path, []parquetRow{
		{start.Add(500 * time.Millisecond), "a", &quarter, "x, y", true},
		{start.Add(time.Second), "b", &thousand, "007", false},
		{start.Add(2 * time.Second), "a", nil, "z", true},
	}))
	return path
}

// TestFormats reads the same three rows from each format.
func TestFormats(t *testing.T) {
	start := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC).UnixNano()
	for name, path := range map[string]string{
		"csv": textFile(t, "x.csv", csvText), "ndjson": textFile(t, "x.ndjson", ndjsonText), "parquet": parquetFile(t),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Open(Options{Path: path, TimestampColumn: "time", EndpointColumn: "host"})
			require.NoError(t, err)
			require.Equal(t, 3, r.Rows())
			require.Equal(t, []string{"a", "b"}, r.Endpoints())
			var got record.Record
			for _, want := range []struct {
				endpoint uint32
				row      uint64
				after    time.Duration
				payload  string
			}{
				{0, 0, 500 * time.Millisecond, `{"load":0.25,"name":"x, y","up":true}`},
				{1, 0, time.Second, `{"load":1000,"name":"007","up":false}`},
				{0, 1, 2 * time.Second, `{"name":"z","up":true}`},
			} {
				r.Fill(&got, record.Batch{Sequence: 4, Endpoint: want.endpoint, Row: want.row}, 0)
				require.Equal(t, start+int64(want.after), got.TimestampUnixNano)
				require.JSONEq(t, want.payload, string(got.Payload))
				require.Equal(t, uint32(1), got.Version)
			}

			again, err := Reopen(r.Reference())
			require.NoError(t, err)
			require.Equal(t, r.rows, again.rows)
		})
	}
}

func TestChangedFileIsNotReopened(t *testing.T) {
	path := textFile(t, "x.csv", csvText)
	r, err := Open(Options{Path: path, TimestampColumn: "time"})
	require.NoError(t, err)
	require.Equal(t, []string{"replay"}, r.Endpoints())
	require.NoError(t, os.WriteFile(path, []byte(csvText+"2026-03-01T10:00:03Z,a,1,z,true\n"), 0o644))
	_, err = Reopen(r.Reference())
	require.ErrorContains(t, err, "SHA-256")
}

func TestBadFiles(t *testing.T) {
	for name, o := range map[string]Options{
		"no file":        {Path: "does-not-exist.csv", TimestampColumn: "time"},
		"suffix":         {Path: textFile(t, "x.txt", csvText), TimestampColumn: "time"},
		"no time column": {Path: textFile(t, "x.csv", csvText)},
		"wrong column":   {Path: textFile(t, "x.csv", csvText), TimestampColumn: "when"},
		"no time":        {Path: textFile(t, "x.csv", csvText), TimestampColumn: "name"},
		"no endpoint":    {Path: textFile(t, "x.csv", csvText), TimestampColumn: "time", EndpointColumn: "load"},
		"empty":          {Path: textFile(t, "x.csv", ""), TimestampColumn: "time"},
		"no rows":        {Path: textFile(t, "x.csv", "time\n"), TimestampColumn: "time"},
		"ragged":         {Path: textFile(t, "x.csv", "time,a\n1,2,3\n"), TimestampColumn: "time"},
		"no JSON":        {Path: textFile(t, "x.ndjson", "{"), TimestampColumn: "time"},
		"no Parquet":     {Path: textFile(t, "x.parquet", "PAR1"), TimestampColumn: "time"},
	} {
		_, err := Open(o)
		require.Error(t, err, name)
	}
}

func TestTimes(t *testing.T) {
	want := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC).UnixNano()
	for _, text := range []string{
		"1772359200", "1772359200000", "1772359200000000", "1772359200000000000", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00+01:00",
	} {
		got, err := parseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

// recording has six rows of two endpoints: a at 0, 1, 2, 3 s, b at 0 and 10 s.
func recording(t *testing.T) *Recording {
	t.Helper()
	const text = "time,host\n1000000000,a\n1000000000,b\n1000000001,a\n1000000002,a\n1000000003,a\n1000000010,b\n"
	r, err := Open(Options{Path: textFile(t, "x.csv", text), TimestampColumn: "time", EndpointColumn: "host"})
	require.NoError(t, err)
	return r
}

// requireWhole checks that the batches hold each row once, in order, and that due times never fall.
func requireWhole(t *testing.T, s *Script) (dues []time.Duration) {
	t.Helper()
	next := make([]uint64, len(s.Endpoints()))
	for i := range s.Len() {
		b, due := s.Batch(i)
		require.Equal(t, next[b.Endpoint], b.Row)
		next[b.Endpoint] += uint64(b.Records)
		dues = append(dues, due)
		if i > 0 {
			require.GreaterOrEqual(t, due, dues[i-1])
		}
	}
	for endpoint, rows := range s.rows {
		require.Equal(t, uint64(len(rows)), next[endpoint])
	}
	return dues
}

func TestScriptKeepsTheRecordedPace(t *testing.T) {
	s, err := recording(t).Script(2, Pace{TimeScale: 1})
	require.NoError(t, err)
	// b's first row is not held back until its second one.
	require.Equal(t, []time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second}, requireWhole(t, s))
	require.Equal(t, 10*time.Second, s.Duration())

	fast, err := recording(t).Script(2, Pace{TimeScale: 100})
	require.NoError(t, err)
	require.Equal(t, 100*time.Millisecond, fast.Duration())
	require.Equal(t, 3, fast.Len())
	requireWhole(t, fast)
}

func TestScriptAtARate(t *testing.T) {
	s, err := recording(t).Script(100, Pace{RecordsPerSecond: 10})
	require.NoError(t, err)
	require.Equal(t, []time.Duration{400 * time.Millisecond, 500 * time.Millisecond}, requireWhole(t, s))
}

func TestScriptNeedsOnePace(t *testing.T) {
	for _, pace := range []Pace{{}, {TimeScale: 1, RecordsPerSecond: 1}} {
		_, err := recording(t).Script(1, pace)
		require.Error(t, err)
	}
	_, err := recording(t).Script(0, Pace{TimeScale: 1})
	require.Error(t, err)
}
