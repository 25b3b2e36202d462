package timescale

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/retention"
)

// young returns the rows that cutoffs let live, in log order.
func young(rows []row, cutoffs retention.Cutoffs) (kept []row) {
	for _, r := range rows {
		if cutoff := cutoffs.Of(r.Tenant); cutoff == nil || r.TimeUnixNano >= cutoff.UnixNano() {
			kept = append(kept, r)
		}
	}
	return kept
}

func TestExpireKeepsWhatIsYoungEnoughForItsTenant(t *testing.T) {
	hours := func(n int) time.Duration { return time.Duration(n) * time.Hour }
	for name, policy := range map[string]retention.Policy{
		"one for all":                 {Default: hours(20)},
		"one keeps everything":        {Default: hours(20), Tenants: map[string]time.Duration{"tenant-1": 0, "tenant-2": hours(1)}},
		"only one loses anything":     {Tenants: map[string]time.Duration{"tenant-0": hours(30)}},
		"partitions go, then rows":    {Default: hours(30), Tenants: map[string]time.Duration{"tenant-1": hours(3)}},
		"an unknown tenant is no row": {Tenants: map[string]time.Duration{"nobody": hours(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			db := prepared(t)
			s := newStory(t)
			sink, flushed := claimed(t, db)
			require.NoError(t, sink.Flush(t.Context(), s.generation(t, 100), flushed))
			cutoffs := policy.At(s.now)
			want := young(s.rows, cutoffs)

			expirer := NewExpirer(db, "records")
			rows, err := expirer.Expire(t.Context(), cutoffs)
			require.NoError(t, err)
			require.EqualValues(t, len(s.rows)-len(want), rows)
			requireExactly(t, db, want)
			rows, err = expirer.Expire(t.Context(), cutoffs)
			require.NoError(t, err)
			require.Zero(t, rows)

			// The checkpoint stays, and late rows are stored as ever, in days that were dropped too.
			old, last := len(s.rows), s.next-1
			require.NoError(t, sink.Flush(t.Context(), s.generation(t, 100), last))
			requireExactly(t, db, append(want, s.rows[old:]...))
		})
	}
}

func TestExpireDropsDaysOfWhichNothingIsKept(t *testing.T) {
	db := prepared(t)
	today := midnight(dayOf(time.Now().UnixNano()))
	var metrics []Metric
	for daysBack := range 6 {
		for _, tenant := range []string{"acme", "globex"} {
			at := today.Add(-time.Duration(daysBack) * day).UnixNano()
			metrics = append(metrics, Metric{Tenant: tenant, Service: "s", Name: "n", TimeUnixNano: at, Type: Gauge, Value: float64(daysBack)})
		}
	}
	_, err := NewMetricWriter(db).Write(t.Context(), metrics)
	require.NoError(t, err)
	partitions := func() int {
		return count(t, db, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'ingestor.metrics'::regclass`)
	}
	before := partitions()
	execute(t, db, `CREATE TABLE ingestor.metrics_archive PARTITION OF ingestor.metrics FOR VALUES FROM ('1999-01-01') TO ('1999-01-02')`)

	// The cutoff lies at the beginning of a day: the days before go whole.
	policy := retention.Policy{Default: 2 * day, Tenants: map[string]time.Duration{"globex": 3 * day}}
	rows, err := NewExpirer(db, "metrics").Expire(t.Context(), policy.At(today))
	require.NoError(t, err)
	require.EqualValues(t, 2*2+1, rows)
	require.Equal(t, before-2+1, partitions(), "two days are gone; a partition with another name is not ours to drop")
	for query, want := range map[string]int{
		`SELECT count(*) FROM ingestor.metrics WHERE tenant_id = 'acme' AND value <= 2`:   3,
		`SELECT count(*) FROM ingestor.metrics WHERE tenant_id = 'globex' AND value <= 3`: 4,
		`SELECT count(*) FROM ingestor.metrics`:                                           7,
	} {
		require.Equal(t, want, count(t, db, query), query)
	}
}
