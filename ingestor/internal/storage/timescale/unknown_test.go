package timescale

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/pgproxy"
)

func TestCommitWhoseOutcomeIsUnknown(t *testing.T) {
	for _, where := range []pgproxy.Point{pgproxy.BeforeCommit, pgproxy.AfterCommit} {
		t.Run(where.String(), func(t *testing.T) {
			p := startProxy(t)
			db := open(t, Config{DSN: p.DSN()})
			s := newStory(t)
			sink, _ := claimed(t, db)
			first, second := s.generation(t, 4), s.generation(t, 4)
			require.NoError(t, sink.Flush(t.Context(), first, 0))

			cut := p.Arm(pgproxy.Fault{Point: where, Table: "ingestor.records"})
			err := sink.Flush(t.Context(), second, first.Last)
			var unknown *CommitUnknownError
			require.ErrorAs(t, err, &unknown)
			<-cut

			// What the processor does: ask, and try again from there.
			flushed, err := sink.Flushed(t.Context())
			require.NoError(t, err)
			if where == pgproxy.AfterCommit {
				require.Equal(t, second.Last, flushed)
			} else {
				require.Equal(t, first.Last, flushed)
				require.NoError(t, sink.Flush(t.Context(), second, flushed))
			}
			requireExactly(t, db, s.rows)
			require.Equal(t, float64(len(s.rows)), testutil.ToFloat64(db.counters.rows.WithLabelValues("records")))

			// One that does not ask gets a conflict, and still stores nothing twice.
			var conflict *ConflictError
			require.ErrorAs(t, sink.Flush(t.Context(), second, first.Last), &conflict)
			requireExactly(t, db, s.rows)
		})
	}
}

func TestMetricsOfAnUnknownCommitAreStoredOnce(t *testing.T) {
	for _, where := range []pgproxy.Point{pgproxy.BeforeCommit, pgproxy.AfterCommit} {
		t.Run(where.String(), func(t *testing.T) {
			p := startProxy(t)
			db := open(t, Config{DSN: p.DSN()})
			w := NewMetricWriter(db)
			cut := p.Arm(pgproxy.Fault{Point: where, Table: "ingestor.metrics", Skip: 1})
			batches := [][]Metric{someMetrics("first", 3), someMetrics("second", 4), someMetrics("third", 5)}
			for i, batch := range batches {
				if i == 1 {
					var unknown *CommitUnknownError
					_, err := w.Write(t.Context(), batch)
					require.ErrorAs(t, err, &unknown)
				}
				written, err := w.Write(t.Context(), batch)
				require.NoError(t, err)
				require.Equal(t, Written{Rows: len(batch)}, written)
			}
			<-cut
			require.Equal(t, append(append(batches[0], batches[1]...), batches[2]...), storedMetrics(t, db))
		})
	}
}

// startProxy returns a proxy before a migrated database.
func startProxy(t testing.TB) *pgproxy.Proxy {
	t.Helper()
	p, err := pgproxy.Start(preparedDSN(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// preparedDSN returns the DSN of a migrated database.
func preparedDSN(t testing.TB) string {
	db := prepared(t)
	config := db.pool.Config().ConnConfig
	require.NotEmpty(t, config.Database)
	return pgxDSN(config)
}

func pgxDSN(c *pgx.ConnConfig) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Host: fmt.Sprintf("%s:%d", c.Host, c.Port),
		Path: c.Database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// The driver may return from a COPY that was cut while it still reads. What it reads is the next attempt's by then, or released: under the race
// detector, or with luck by a panic, this shows.
func TestACopyThatIsCutIsNotReadOn(t *testing.T) {
	p := startProxy(t)
	db := open(t, Config{DSN: p.DSN(), TransactionRecords: 1 << 20})
	s := newStory(t)
	sink, _ := claimed(t, db)
	g := s.generation(t, 600)
	for i := range 20 {
		cut := p.Arm(pgproxy.Fault{Point: pgproxy.InCopy, Table: "ingestor.records", CopyBytes: i * 4000})
		sink.limit = 0 // the whole generation again, and not half of what has failed
		require.Error(t, sink.Flush(t.Context(), g, 0))
		<-cut
	}
	flushed, err := sink.Flushed(t.Context())
	require.NoError(t, err)
	require.Zero(t, flushed)
	require.NoError(t, sink.Flush(t.Context(), g, 0))
	requireExactly(t, db, s.rows)
}
