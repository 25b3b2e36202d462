package timescale

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func letters(t *testing.T, db *Database) (list []DeadLetter) {
	t.Helper()
	require.NoError(t, db.DeadLetters(t.Context(), 0, 1000, func(l DeadLetter) error { list = append(list, l); return nil }))
	return list
}

func TestDeadRecordsAreReplayedOnce(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	execute(t, db, "ALTER TABLE ingestor.records ADD CONSTRAINT no_multiples_of_17 CHECK (lsn % 17 <> 0)")
	require.NoError(t, sink.Flush(t.Context(), s.generation(t, 10), 0))
	all := letters(t, db)
	require.Greater(t, len(all), 3)

	// Refused again: it stays.
	refused, err := db.Replay(t.Context(), all[0].ID, all[0].Body)
	require.NoError(t, err)
	require.Contains(t, refused, "23514")
	require.Len(t, letters(t, db), len(all))

	execute(t, db, "ALTER TABLE ingestor.records DROP CONSTRAINT no_multiples_of_17")
	// Two at a time for each: one stores the row, the other finds nothing to store.
	for _, letter := range all {
		var group sync.WaitGroup
		results := make([]error, 2)
		for i := range results {
			group.Go(func() { _, results[i] = db.Replay(t.Context(), letter.ID, letter.Body) })
		}
		group.Wait()
		if results[0] != nil {
			results[0], results[1] = results[1], results[0]
		}
		require.NoError(t, results[0])
		require.ErrorIs(t, results[1], ErrNoDeadLetter)
	}
	require.Empty(t, letters(t, db))
	requireExactly(t, db, s.rows)
}

func TestDeadLettersCanBeCorrectedButNotMoved(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	g := s.generation(t, 2)
	execute(t, db, "ALTER TABLE ingestor.records ADD CONSTRAINT not_the_second CHECK (lsn <> 2 OR endpoint_id = 'corrected')")
	require.NoError(t, sink.Flush(t.Context(), g, 0))
	all := letters(t, db)
	require.Len(t, all, 1)

	var body map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(all[0].Body)))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&body))
	with := func(key string, value any) []byte {
		changed := map[string]any{}
		for k, v := range body {
			changed[k] = v
		}
		changed[key] = value
		text, err := json.Marshal(changed)
		require.NoError(t, err)
		return text
	}
	for problem, text := range map[string][]byte{
		"position":      with("lsn", 3),
		"unknown field": with("endpiont_id", "corrected"),
		"attributes":    with("attributes", "no object"),
		"EOF":           nil,
		"more than one": append(with("endpoint_id", "corrected"), "{}"...),
	} {
		_, err := db.Replay(t.Context(), all[0].ID, text)
		require.ErrorContains(t, err, problem)
	}
	require.Len(t, letters(t, db), 1, "what cannot be read changes nothing")

	refused, err := db.Replay(t.Context(), all[0].ID, with("endpoint_id", "still wrong"))
	require.NoError(t, err)
	require.Contains(t, refused, "not_the_second")
	require.Contains(t, string(letters(t, db)[0].Body), "still wrong", "the last attempt is what is kept")

	refused, err = db.Replay(t.Context(), all[0].ID, with("endpoint_id", "corrected"))
	require.NoError(t, err)
	require.Empty(t, refused)
	want := append([]row{}, s.rows...)
	want[1].Endpoint = "corrected"
	requireExactly(t, db, want)
	require.Empty(t, letters(t, db))
}

func TestDeadMetricsAreReplayedAndDiscarded(t *testing.T) {
	db := prepared(t)
	execute(t, db, "ALTER TABLE ingestor.metrics ADD CONSTRAINT small CHECK (value < 100)")
	metrics := []Metric{
		{Tenant: "acme", Service: "billing", Name: "depth", TimeUnixNano: -1, Type: Gauge, Value: 1},
		{Tenant: "acme", Service: "billing", Name: "depth", TimeUnixNano: 1_700_000_000_000_000_001, Type: Counter, Unit: "s", Value: 100.25, Labels: []byte(`{"a":"b"}`)},
		{Tenant: "acme", Service: "billing", Name: "depth", TimeUnixNano: 2, Type: Gauge, Value: 200},
	}
	writer := NewMetricWriter(db)
	written, err := writer.Write(t.Context(), metrics)
	require.NoError(t, err)
	require.Equal(t, Written{Rows: 1, DeadLetters: 2}, written)
	all := letters(t, db)
	require.Len(t, all, 2)
	require.ErrorIs(t, db.Discard(t.Context(), all[1].ID+1), ErrNoDeadLetter)
	require.NoError(t, db.Discard(t.Context(), all[1].ID))
	execute(t, db, "ALTER TABLE ingestor.metrics DROP CONSTRAINT small")
	refused, err := db.Replay(t.Context(), all[0].ID, all[0].Body)
	require.NoError(t, err)
	require.Empty(t, refused)
	require.Empty(t, letters(t, db))

	var stored []Metric
	rows, err := db.pool.Query(t.Context(), `SELECT tenant_id, service, name, ts_unix_nano, type, unit, value, coalesce(labels::text, '')
		FROM ingestor.metrics WHERE ts = '2023-11-14 22:13:20+00'`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var m Metric
		var kind int16
		var labels string
		require.NoError(t, rows.Scan(&m.Tenant, &m.Service, &m.Name, &m.TimeUnixNano, &kind, &m.Unit, &m.Value, &labels))
		m.Type, m.Labels = MetricType(kind), []byte(strings.ReplaceAll(labels, " ", ""))
		stored = append(stored, m)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, metrics[1:2], stored)
}
