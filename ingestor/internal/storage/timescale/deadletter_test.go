package timescale

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

func TestPoisonRecordsAreBuriedAndTheOthersStored(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	// What an operator may add, and a few clients then offend against.
	execute(t, db, "ALTER TABLE ingestor.records ADD CONSTRAINT no_multiples_of_17 CHECK (lsn % 17 <> 0)")
	g := s.generation(t, 20)
	require.NoError(t, sink.Flush(t.Context(), g, 0))

	var good, bad []row
	for _, r := range s.rows {
		if r.LSN%17 == 0 {
			bad = append(bad, r)
		} else {
			good = append(good, r)
		}
	}
	require.NotEmpty(t, bad)
	requireExactly(t, db, good)
	requireBuried(t, db, bad, "SQLSTATE 23514")
	require.Equal(t, float64(len(good)), testutil.ToFloat64(db.counters.rows.WithLabelValues("records")))
	require.Equal(t, float64(len(bad)), testutil.ToFloat64(db.counters.deadLetters.WithLabelValues("records")))
}

func TestTenantThatIsNoTextIsBuriedWhole(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	g := &memtable.Generation{First: 1}
	for _, tenant := range []string{"good", "nul \x00", "also good"} {
		b := s.batch(t, tenant, "orders", 8)
		g.Tables = append(g.Tables, &memtable.Table{Tenant: tenant, Endpoint: "orders", Batches: []memtable.Batch{b}, Records: 8})
	}
	g.Last = s.next - 1
	require.NoError(t, sink.Flush(t.Context(), g, 0))
	requireExactly(t, db, append(append([]row{}, s.rows[:8]...), s.rows[16:]...))
	requireBuried(t, db, s.rows[8:16], "SQLSTATE 22021")
}

// requireBuried compares the dead letters with the records that they stand for, field by field.
func requireBuried(t *testing.T, db *Database, want []row, reason string) {
	t.Helper()
	rows, err := db.pool.Query(t.Context(), `
		SELECT lsn, wal_id, event_id, tenant_id, reason, convert_from(body, 'UTF8')
		FROM ingestor.dead_letters WHERE source = 'records' ORDER BY lsn`)
	require.NoError(t, err)
	defer rows.Close()
	i := 0
	for ; rows.Next(); i++ {
		var lsn int64
		var wal, event [16]byte
		var tenant []byte
		var why, body string
		require.NoError(t, rows.Scan(&lsn, &wal, &event, &tenant, &why, &body))
		require.Less(t, i, len(want))
		w := want[i]
		require.Equal(t, w.LSN, lsn)
		require.Equal(t, walID, wal)
		require.Equal(t, w.EventID, uuid.UUID(event))
		require.Equal(t, w.Tenant, string(tenant))
		require.Contains(t, why, reason)
		var dead deadRecord
		require.NoError(t, json.Unmarshal([]byte(body), &dead))
		got := row{
			LSN: int64(dead.LSN), Tenant: dead.TenantID, Endpoint: dead.EndpointID, EventID: dead.EventID,
			TimeUnixNano: dead.TimestampUnixNano, Version: int64(dead.Version), ContentType: dead.ContentType, Payload: dead.Payload,
		}
		if len(dead.Attributes) > 0 {
			require.NoError(t, json.Unmarshal(dead.Attributes, &got.Attributes))
		}
		if w.Payload == nil {
			w.Payload = []byte{}
		}
		require.Equal(t, w, got)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, len(want), i)
}
