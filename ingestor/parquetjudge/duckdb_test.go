package parquetjudge

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // the judge
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

const rowGroupRows = 500

// record is what was sent, and what DuckDB must find.
type record struct {
	eventID                       string
	timeUnixMicro                 int64 // DuckDB has no more
	version                       int64
	payload                       string
	contentType, tenant, endpoint string
	attributes                    sql.NullString
	lsn                           int64
}

// tableSpec says what the records of one (tenant, endpoint) are like.
type tableSpec struct {
	endpoint     string
	records      int
	batch        int // records in one
	payloadBytes int
	attributes   int // different ones; 0: none at all; negative: long ones, different in each record
	nulls        int // percent of records without attributes
	contentTypes int
	randomIDs    bool
}

var specs = []tableSpec{
	{endpoint: "one", records: 1, payloadBytes: 10},
	{endpoint: "group", records: rowGroupRows, payloadBytes: 50, attributes: 3},
	{endpoint: "group and one", records: rowGroupRows + 1, payloadBytes: 50, attributes: 3, nulls: 20},
	{endpoint: "empty payloads", records: 700, attributes: 300, nulls: 50, randomIDs: true},
	{endpoint: "large payloads", records: 80, payloadBytes: 64 << 10, nulls: 90, attributes: 1},
	{endpoint: "overflow", records: 400, payloadBytes: 5, attributes: -1, nulls: 10},
	{endpoint: "no attributes", records: 3000, payloadBytes: 100, randomIDs: true},
	{endpoint: "types", records: 2000, batch: 13, payloadBytes: 30, attributes: 20, nulls: 5, contentTypes: 200},
	{endpoint: "small a", records: 9, payloadBytes: 30, attributes: 2, nulls: 50, contentTypes: 2},
	{endpoint: "small b\u2603", records: 11, payloadBytes: 30},
}

// generator makes random generations.
type generator struct {
	t    *testing.T
	rng  *rand.Rand
	next uint64
	sent []record
}

func (g *generator) table(tenant string, s tableSpec, start time.Time) *memtable.Table {
	table := &memtable.Table{Tenant: tenant, Endpoint: s.endpoint}
	if s.batch == 0 {
		s.batch = 300
	}
	for left := s.records; left > 0; {
		n := min(left, s.batch)
		left -= n
		req := &storagepb.WriteBatchRequest{EndpointId: s.endpoint}
		if s.contentTypes > 0 {
			req.ContentType = fmt.Sprintf("type/%d", g.rng.IntN(s.contentTypes))
		}
		first := g.next
		for range n {
			req.Records = append(req.Records, g.record(tenant, req.ContentType, s, start))
		}
		raw, err := proto.Marshal(req)
		require.NoError(g.t, err)
		table.Batches = append(table.Batches, memtable.Batch{Raw: raw, First: first, Last: g.next - 1})
		table.Records += n
	}
	return table
}

func (g *generator) record(tenant, contentType string, s tableSpec, start time.Time) *storagepb.DataRecord {
	r := &storagepb.DataRecord{
		EventId: make([]byte, 16), TimestampUnixNano: start.UnixNano() + g.rng.Int64N(int64(20*time.Minute)),
		Version: []uint32{0, 1, 2, math.MaxInt32, math.MaxUint32}[g.rng.IntN(5)],
	}
	binary.BigEndian.PutUint64(r.EventId, uint64(r.TimestampUnixNano/1e6)<<16|0x7000)
	binary.BigEndian.PutUint64(r.EventId[8:], g.next)
	if s.randomIDs {
		binary.BigEndian.PutUint64(r.EventId, g.rng.Uint64())
	}
	if s.payloadBytes > 0 {
		r.Payload = make([]byte, g.rng.IntN(s.payloadBytes+1))
		for i := range r.Payload {
			r.Payload[i] = byte(g.rng.Uint32())
		}
	}
	want := record{
		eventID: uuid.UUID(r.EventId).String(), timeUnixMicro: r.TimestampUnixNano / 1000, version: int64(r.Version),
		payload: string(r.Payload), contentType: contentType, tenant: tenant, endpoint: s.endpoint, lsn: int64(g.next),
	}
	if contentType == "" {
		want.contentType = batch.DefaultContentType
	}
	if s.attributes != 0 && g.rng.IntN(100) >= s.nulls {
		value := fmt.Sprint("v", g.rng.IntN(max(1, s.attributes)))
		if s.attributes < 0 {
			value = fmt.Sprint(g.next, strings.Repeat("x", 4000))
		}
		r.Attributes = map[string]string{"key": value}
		want.attributes = sql.NullString{String: fmt.Sprintf(`{"key":"%s"}`, value), Valid: true}
	}
	g.sent = append(g.sent, want)
	g.next++
	return r
}

// DuckDB reads every value of every file, with every codec, with the bytes that were sent.
func TestDuckDBReadsWhatWasSent(t *testing.T) {
	for _, compression := range []parquetfile.Compression{parquetfile.Zstd, parquetfile.Snappy, parquetfile.None} {
		t.Run(string(compression), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			g := &generator{t: t, rng: rand.New(rand.NewPCG(seed, 1)), next: 1}
			files := g.store(compression)
			db, err := sql.Open("duckdb", "")
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			var got []record
			for _, f := range files {
				got = append(got, read(t, db, f)...)
			}
			sort.Slice(got, func(i, j int) bool { return got[i].lsn < got[j].lsn })
			require.Len(t, got, len(g.sent))
			for i := range got {
				require.Equal(t, g.sent[i], got[i], "record %d", i)
			}
			g.lookUp(db, files)
		})
	}
}

// store flushes two generations and returns the files.
func (g *generator) store(compression parquetfile.Compression) []string {
	dir, log := g.t.TempDir(), slog.New(slog.DiscardHandler)
	m, err := manifest.Open(vfs.OS, filepath.Join(dir, "manifest"), manifest.Options{Logger: log})
	require.NoError(g.t, err)
	defer func() { require.NoError(g.t, m.Close()) }()
	sink, err := parquetfile.Open(parquetfile.Options{
		FS: vfs.OS, Dir: filepath.Join(dir, "parquet"), Manifest: m, Compression: compression, RowGroupRows: rowGroupRows,
		SmallTableRows: 12, BloomFilter: true, Threads: 2, Logger: log, Registerer: prometheus.NewRegistry(),
	})
	require.NoError(g.t, err)
	defer sink.Close()
	for round := range 2 {
		gen := &memtable.Generation{First: g.next}
		for _, s := range specs {
			gen.Tables = append(gen.Tables, g.table("acme", s, time.Date(2026, 3, 1, 12+round, 50, 0, 0, time.UTC)))
		}
		gen.Last = g.next - 1
		gen.Sort()
		require.NoError(g.t, sink.Flush(g.t.Context(), gen, gen.First-1))
	}
	var files []string
	for _, f := range m.State().SortedFiles() {
		files = append(files, filepath.Join(dir, "parquet", filepath.FromSlash(f.Path)))
	}
	require.Greater(g.t, len(files), 2*(len(specs)-1))
	return files
}

func read(t *testing.T, db *sql.DB, file string) []record {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `
		SELECT event_id::VARCHAR, epoch_us("timestamp"), version, payload, content_type, attributes::VARCHAR, tenant_id, endpoint_id, lsn
		FROM read_parquet(?, hive_partitioning = false)`, file)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var all []record
	for rows.Next() {
		var r record
		var payload []byte
		require.NoError(t, rows.Scan(&r.eventID, &r.timeUnixMicro, &r.version, &payload, &r.contentType, &r.attributes, &r.tenant,
			&r.endpoint, &r.lsn))
		r.payload = string(payload)
		all = append(all, r)
	}
	require.NoError(t, rows.Err())
	return all
}

// lookUp asks for single records by what DuckDB skips row groups by: statistics and Bloom filters. One that is wrong hides them.
func (g *generator) lookUp(db *sql.DB, files []string) {
	list := "['" + strings.Join(files, "', '") + "']" // names that this test made
	for range 100 {
		want := g.sent[g.rng.IntN(len(g.sent))]
		for condition, value := range map[string]any{
			"event_id = ?::UUID": want.eventID, "lsn = ?": want.lsn, `epoch_us("timestamp") = ?`: want.timeUnixMicro,
			`"timestamp" BETWEEN make_timestamptz(?) - INTERVAL 1 MILLISECOND AND make_timestamptz(` +
				fmt.Sprint(want.timeUnixMicro) + `) + INTERVAL 1 MILLISECOND`: want.timeUnixMicro,
			"lsn = " + fmt.Sprint(want.lsn) + " AND content_type = ?": want.contentType,
			"lsn = " + fmt.Sprint(want.lsn) + " AND version = ?":      want.version,
			"lsn = " + fmt.Sprint(want.lsn) + " AND endpoint_id = ?":  want.endpoint,
		} {
			var found int
			query := "SELECT count(*) FROM read_parquet(" + list + ", hive_partitioning = false) WHERE " + condition +
				" AND lsn = " + fmt.Sprint(want.lsn)
			require.NoError(g.t, db.QueryRowContext(g.t.Context(), query, value).Scan(&found), query)
			require.Equal(g.t, 1, found, "%s, %v", query, value)
		}
	}
}
