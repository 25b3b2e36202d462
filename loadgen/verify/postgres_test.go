package verify

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
)

// schema is the part of the server's published schema that the judge reads.
const schema = `CREATE SCHEMA ingestor;
CREATE TABLE ingestor.records (ts timestamptz, ts_unix_nano bigint, tenant_id text, endpoint_id text, event_id uuid,
    version bigint, content_type text, payload bytea, attributes jsonb, lsn bigint, wal_id uuid);
CREATE TABLE ingestor.metrics (ts timestamptz, ts_unix_nano bigint, tenant_id text, service text, instance text, name text,
    type smallint, unit text, value double precision, labels jsonb);`

// connect returns a connection to an empty database with the schema.
func connect(t *testing.T) (conn *pgx.Conn, dsn string) {
	t.Helper()
	dsn = pgtest.Database(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	_, err = conn.Exec(t.Context(), schema)
	require.NoError(t, err)
	return conn, dsn
}

func (w *world) insert(conn *pgx.Conn) {
	w.t.Helper()
	var rows [][]any
	for _, batch := range w.rows {
		for _, r := range batch {
			var attributes any
			if r.Attributes != "" {
				attributes = r.Attributes
			}
			rows = append(rows, []any{
				time.Unix(0, r.Timestamp).Truncate(time.Microsecond), r.Timestamp, r.TenantID, r.EndpointID, r.EventID, r.Version,
				r.ContentType, r.Payload, attributes, r.LSN,
			})
		}
	}
	columns := []string{
		"ts", "ts_unix_nano", "tenant_id", "endpoint_id", "event_id", "version", "content_type", "payload", "attributes", "lsn",
	}
	_, err := conn.CopyFrom(w.t.Context(), pgx.Identifier{"ingestor", "records"}, columns, pgx.CopyFromRows(rows))
	require.NoError(w.t, err)
}

func TestPostgresRows(t *testing.T) {
	conn, dsn := connect(t)
	w := newWorld(t)
	w.insert(conn)
	judge := func() Report {
		report, err := Postgres(t.Context(), dsn, w.ledgerPath)
		require.NoError(t, err)
		report.Examples = nil
		return *report
	}
	right := Report{
		Source: "postgres", Sent: worldSent, Acked: worldAcked, Unknown: 2 * worldRecords, Refused: worldRecords,
		Rows: worldRows, UnknownStored: worldRecords,
	}
	require.Equal(t, right, judge())

	for name, test := range map[string]struct {
		sql   string
		fault func(r *Report)
	}{
		"missing":   {"DELETE FROM ingestor.records WHERE lsn = 7", func(r *Report) { r.Rows--; r.Missing++; r.PartialBatches++ }},
		"duplicate": {"INSERT INTO ingestor.records SELECT * FROM ingestor.records WHERE lsn = 8", func(r *Report) { r.Rows++; r.Duplicate++ }},
		"corrupt":   {"UPDATE ingestor.records SET payload = payload || 'x' WHERE lsn = 9", func(r *Report) { r.Corrupt++ }},
		"microseconds": {
			"UPDATE ingestor.records SET ts = ts + interval '1 microsecond' WHERE lsn = 10", func(r *Report) { r.Corrupt++ },
		},
		"unexpected": {
			"INSERT INTO ingestor.records SELECT ts, ts_unix_nano, tenant_id, endpoint_id, gen_random_uuid(), version, content_type, " +
				"payload, attributes, lsn, wal_id FROM ingestor.records WHERE lsn = 11",
			func(r *Report) { r.Rows++; r.Unexpected++ },
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := conn.Exec(t.Context(), "TRUNCATE ingestor.records")
			require.NoError(t, err)
			w.insert(conn)
			_, err = conn.Exec(t.Context(), test.sql)
			require.NoError(t, err)
			want := right
			test.fault(&want)
			require.Equal(t, want, judge())
		})
	}
}

func TestMetricRows(t *testing.T) {
	conn, dsn := connect(t)
	const service, requests, size = "load-0011", 6, 20
	path := filepath.Join(t.TempDir(), "ledger")
	header := ledger.Header{Kind: ledger.Metrics, Tenants: []string{"acme"}, Endpoints: []string{"metrics"}, Service: service}
	book, err := ledger.Create(path, header)
	require.NoError(t, err)
	insert := func(m record.Metric, instance string) {
		_, err := conn.Exec(t.Context(), `INSERT INTO ingestor.metrics VALUES ($1, $2, 'acme', $3, $4, $5, 1, $6, $7, $8)`,
			time.Unix(0, m.TimestampUnixNano).Truncate(time.Microsecond), m.TimestampUnixNano, service, instance, m.Name, m.Unit, m.Value,
			fmt.Sprintf(`{"%s": "%s"}`, m.LabelKey, m.LabelValue))
		require.NoError(t, err)
	}
	for i := range uint64(requests) {
		b := record.Batch{Producer: 5, Sequence: i + 1, UnixMilli: worldTime.UnixMilli(), Records: size}
		require.NoError(t, book.Sent(ledger.Sent{Batch: b}))
		if i > 0 { // the first has no answer
			require.NoError(t, book.Acked(ledger.Acked{Producer: 5, Sequence: i + 1, Records: size, Level: 1}))
		}
		for index := range uint32(size) {
			insert(record.MetricOf(b.Identity(index)), record.MetricInstance(5))
		}
	}
	require.NoError(t, book.Close())
	judge := func() Report {
		report, err := Metrics(t.Context(), dsn, path)
		require.NoError(t, err)
		report.Examples = nil
		return *report
	}
	right := Report{
		Source: "postgres metrics", Sent: requests * size, Acked: (requests - 1) * size, Unknown: size, UnknownStored: size,
		Rows: requests * size,
	}
	require.Equal(t, right, judge())

	second := record.Identity{UnixMilli: worldTime.UnixMilli(), Producer: 5, Sequence: 2, Index: 4}
	_, err = conn.Exec(t.Context(), "UPDATE ingestor.metrics SET unit = 'x' WHERE value = $1", record.MetricValue(second))
	require.NoError(t, err)
	second.Index = 5
	insert(record.MetricOf(second), record.MetricInstance(5))
	second.Index = 6
	_, err = conn.Exec(t.Context(), "DELETE FROM ingestor.metrics WHERE value = $1", record.MetricValue(second))
	require.NoError(t, err)
	unanswered := record.Identity{UnixMilli: worldTime.UnixMilli(), Producer: 5, Sequence: 1, Index: 7}
	_, err = conn.Exec(t.Context(), "DELETE FROM ingestor.metrics WHERE value = $1", record.MetricValue(unanswered))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "INSERT INTO ingestor.metrics (service, value, ts_unix_nano, ts) VALUES ($1, 0.5, 0, now())", service)
	require.NoError(t, err)
	right.UnknownStored--
	right.Corrupt, right.Duplicate, right.Missing, right.Unexpected, right.PartialBatches = 1, 1, 1, 1, 2
	require.Equal(t, right, judge())
}
