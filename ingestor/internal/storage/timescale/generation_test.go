package timescale

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// row is a record as a reader of the database sees it.
type row struct {
	LSN          int64
	Tenant       string
	Endpoint     string
	EventID      uuid.UUID
	TimeUnixNano int64
	Version      int64
	ContentType  string
	Payload      []byte
	Attributes   map[string]string
}

// story makes generations of random records and remembers what must come out.
type story struct {
	rng  *rand.Rand
	next uint64
	now  time.Time
	rows []row
}

func newStory(t testing.TB) *story {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &story{rng: rand.New(rand.NewPCG(seed, 0)), next: 1, now: time.Now().UTC()}
}

// generation makes one of n batches, in tables of a few tenants and endpoints.
func (s *story) generation(t testing.TB, n int) *memtable.Generation {
	t.Helper()
	tables := map[[2]string]*memtable.Table{}
	g := &memtable.Generation{First: s.next, Batches: n}
	for range n {
		tenant, endpoint := fmt.Sprintf("tenant-%d", s.rng.IntN(3)), fmt.Sprintf("endpoint ü %d", s.rng.IntN(4))
		table := tables[[2]string{tenant, endpoint}]
		if table == nil {
			table = &memtable.Table{Tenant: tenant, Endpoint: endpoint}
			tables[[2]string{tenant, endpoint}] = table
			g.Tables = append(g.Tables, table)
		}
		b := s.batch(t, tenant, endpoint, 1+s.rng.IntN(20))
		table.Batches = append(table.Batches, b)
		table.Records += b.Records()
	}
	slices.SortFunc(g.Tables, func(a, b *memtable.Table) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	g.Last = s.next - 1
	return g
}

func (s *story) batch(t testing.TB, tenant, endpoint string, n int) memtable.Batch {
	t.Helper()
	request := &storagepb.WriteBatchRequest{EndpointId: endpoint}
	contentType := "application/json"
	if s.rng.IntN(2) == 0 {
		contentType = "application/x-" + fmt.Sprint(s.rng.IntN(3))
		request.ContentType = contentType
	}
	b := memtable.Batch{First: s.next, MinTimeUnixNano: 1<<63 - 1}
	for range n {
		r := s.record()
		request.Records = append(request.Records, r)
		s.rows = append(s.rows, row{
			LSN: int64(s.next), Tenant: tenant, Endpoint: endpoint, EventID: uuid.UUID(r.EventId),
			TimeUnixNano: r.TimestampUnixNano, Version: int64(r.Version), ContentType: contentType, Payload: r.Payload,
			Attributes: r.Attributes,
		})
		b.MinTimeUnixNano = min(b.MinTimeUnixNano, r.TimestampUnixNano)
		b.MaxTimeUnixNano = max(b.MaxTimeUnixNano, r.TimestampUnixNano)
		s.next++
	}
	b.Last = s.next - 1
	raw, err := proto.Marshal(request)
	require.NoError(t, err)
	b.Raw = raw
	return b
}

func (s *story) record() *storagepb.DataRecord {
	id := make([]byte, 16)
	for i := range id {
		id[i] = byte(s.rng.Uint32())
	}
	payload := make([]byte, s.rng.IntN(200))
	for i := range payload {
		payload[i] = byte(s.rng.Uint32())
	}
	r := &storagepb.DataRecord{
		EventId: id, Payload: payload, Version: s.rng.Uint32(),
		TimestampUnixNano: s.now.Add(-time.Duration(s.rng.Int64N(int64(48 * time.Hour)))).UnixNano(),
	}
	if s.rng.IntN(10) == 0 {
		r.TimestampUnixNano = 1 + s.rng.Int64N(s.now.UnixNano()) // any day since 1970
	}
	for range s.rng.IntN(3) {
		if r.Attributes == nil {
			r.Attributes = map[string]string{}
		}
		r.Attributes[fmt.Sprintf("key \"%d\"", s.rng.IntN(5))] = fmt.Sprintf("value \\ \n ü %d", s.rng.IntN(1000))
	}
	return r
}

// stored reads every record that the database holds, in log order.
func stored(t testing.TB, db *Database) []row {
	t.Helper()
	rows, err := db.pool.Query(t.Context(), `
		SELECT lsn, tenant_id, endpoint_id, event_id, ts_unix_nano, version, content_type, payload, attributes::text,
		       (extract(epoch FROM ts) * 1000000)::bigint = ts_unix_nano / 1000
		FROM ingestor.records ORDER BY lsn`)
	require.NoError(t, err)
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		var id [16]byte
		var attributes *string
		var tsAgrees bool
		require.NoError(t, rows.Scan(&r.LSN, &r.Tenant, &r.Endpoint, &id, &r.TimeUnixNano, &r.Version, &r.ContentType, &r.Payload,
			&attributes, &tsAgrees))
		require.True(t, tsAgrees, "ts of LSN %d", r.LSN)
		r.EventID = id
		if attributes != nil {
			require.NoError(t, json.Unmarshal([]byte(*attributes), &r.Attributes))
		}
		all = append(all, r)
	}
	require.NoError(t, rows.Err())
	return all
}

// requireExactly compares identities and bytes of everything stored.
func requireExactly(t testing.TB, db *Database, want []row) {
	t.Helper()
	got := stored(t, db)
	require.Len(t, got, len(want))
	for i := range want {
		if want[i].Payload == nil {
			want[i].Payload = []byte{}
		}
		require.Equal(t, want[i], got[i])
	}
}
