package timescale

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/pgtest"
)

// someMetrics returns n metrics that differ in everything. Their labels are as PostgreSQL prints them.
func someMetrics(name string, n int) []Metric {
	base := time.Now().UnixNano()
	metrics := make([]Metric, n)
	for i := range metrics {
		metrics[i] = Metric{
			Tenant: "acme", Service: name, Instance: fmt.Sprint("host-", i), Name: fmt.Sprint("metric ü ", i),
			TimeUnixNano: base + int64(i), Type: Gauge, Unit: "seconds", Value: float64(i) + 0.1,
		}
		if i%2 == 1 {
			metrics[i].Type = Counter
			metrics[i].Labels = fmt.Appendf(nil, `{"i": "%d", "key": "a \"quote\""}`, i)
		}
	}
	return metrics
}

// storedMetrics reads all metrics in the order in which they were stored.
func storedMetrics(t testing.TB, db *Database) []Metric {
	t.Helper()
	rows, err := db.pool.Query(t.Context(), `
		SELECT tenant_id, service, instance, name, ts_unix_nano, type, unit, value, labels::text,
		       (extract(epoch FROM ts) * 1000000)::bigint = ts_unix_nano / 1000
		FROM ingestor.metrics ORDER BY ts_unix_nano`)
	require.NoError(t, err)
	defer rows.Close()
	var all []Metric
	for rows.Next() {
		var m Metric
		var labels *string
		var tsAgrees bool
		require.NoError(t, rows.Scan(&m.Tenant, &m.Service, &m.Instance, &m.Name, &m.TimeUnixNano, &m.Type, &m.Unit, &m.Value,
			&labels, &tsAgrees))
		require.True(t, tsAgrees)
		if labels != nil {
			m.Labels = []byte(*labels)
		}
		all = append(all, m)
	}
	require.NoError(t, rows.Err())
	return all
}

func TestMetricsComeOutAsTheyWentIn(t *testing.T) {
	db := prepared(t)
	metrics := someMetrics("billing", 10)
	metrics[0].Value = math.Inf(1)
	metrics[1].Value = math.Inf(-1)
	metrics[2].Value = math.MaxFloat64
	metrics[3].Value = math.SmallestNonzeroFloat64
	metrics[4].Value = math.Copysign(0, -1)
	w := NewMetricWriter(db)
	written, err := w.Write(t.Context(), metrics)
	require.NoError(t, err)
	require.Equal(t, Written{Rows: 10}, written)
	written, err = w.Write(t.Context(), nil)
	require.NoError(t, err)
	require.Zero(t, written)
	require.Equal(t, metrics, storedMetrics(t, db))

	require.Equal(t, 1, count(t, db, "SELECT count(*) FROM ingestor.metric_checkpoints"))
	require.NoError(t, w.Close(t.Context()))
	require.Zero(t, count(t, db, "SELECT count(*) FROM ingestor.metric_checkpoints"))
}

func TestWritersDoNotDisturbEachOther(t *testing.T) {
	db := prepared(t)
	a, b := NewMetricWriter(db), NewMetricWriter(db)
	for i := range 3 {
		for _, w := range []*MetricWriter{a, b} {
			_, err := w.Write(t.Context(), someMetrics(fmt.Sprint("service-", i), 2))
			require.NoError(t, err)
		}
	}
	require.Len(t, storedMetrics(t, db), 12)
}

func TestMetricsOfAKilledServerAreStoredOnce(t *testing.T) {
	cluster, dsn := pgtest.Private(t)
	db := open(t, Config{DSN: dsn})
	w := NewMetricWriter(db)
	first, second := someMetrics("first", 3), someMetrics("second", 3)
	_, err := w.Write(t.Context(), first)
	require.NoError(t, err)
	require.NoError(t, cluster.Kill(t.Context()))
	_, err = w.Write(t.Context(), second)
	require.Error(t, err)
	require.NoError(t, cluster.Restart(t.Context()))
	_, err = w.Write(t.Context(), second)
	require.NoError(t, err)
	require.Equal(t, append(first, second...), storedMetrics(t, db))
}

func TestPoisonMetricsAreBuriedAndTheOthersStored(t *testing.T) {
	db := prepared(t)
	metrics := someMetrics("billing", 50)
	metrics[7].Labels = []byte(`{"key":"a\u0000b"}`)
	metrics[8].Name = "nul \x00"
	metrics[49].Value = math.Inf(1)
	metrics[49].Tenant = "nul \x00"
	written, err := NewMetricWriter(db).Write(t.Context(), metrics)
	require.NoError(t, err)
	require.Equal(t, Written{Rows: 47, DeadLetters: 3}, written)
	require.Equal(t, append(append([]Metric{}, metrics[:7]...), metrics[9:49]...), storedMetrics(t, db))

	var bodies, reasons []string
	rows, err := db.pool.Query(t.Context(),
		"SELECT convert_from(body, 'UTF8'), reason FROM ingestor.dead_letters WHERE source = 'metrics' ORDER BY ctid")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var body, reason string
		require.NoError(t, rows.Scan(&body, &reason))
		bodies, reasons = append(bodies, body), append(reasons, reason)
	}
	require.NoError(t, rows.Err())
	require.Len(t, bodies, 3)
	for i, index := range []int{7, 8, 49} {
		m := metrics[index]
		var dead deadMetric
		require.NoError(t, json.Unmarshal([]byte(bodies[i]), &dead))
		require.Equal(t, m.Name, dead.Name)
		require.Equal(t, m.Tenant, dead.TenantID)
		require.Equal(t, m.TimeUnixNano, dead.TimestampUnixNano)
		require.Equal(t, compact(t, m.Labels), compact(t, dead.Labels))
		require.Contains(t, reasons[i], "SQLSTATE 22")
	}
	require.Contains(t, bodies[2], `"value":"+Inf"`)
}

func compact(t *testing.T, object []byte) string {
	t.Helper()
	if len(object) == 0 {
		return ""
	}
	var b bytes.Buffer
	require.NoError(t, json.Compact(&b, object))
	return b.String()
}
