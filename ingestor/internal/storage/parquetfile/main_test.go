package parquetfile_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/processor"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

var _ processor.Sink = (*parquetfile.Sink)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	manifestDir = "data/manifest"
	parquetDir  = "data/parquet"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	noon  = time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
)

// record is what a test sends and expects to find.
type record struct {
	Tenant, Endpoint, ContentType string
	EventID                       [16]byte
	TimeUnixNano                  int64
	Version                       int64
	Payload                       string
	Attributes                    string // "" for null
	LSN                           int64
}

// generator makes random records and the generations that hold them.
type generator struct {
	t    testing.TB
	rng  *rand.Rand
	next uint64 // LSN
	// v7 makes event ids that share their beginnings, as those of version 7 do.
	v7 bool
	// sent holds every record, by LSN - 1.
	sent []record
}

func newGenerator(t testing.TB, seed uint64) *generator {
	t.Helper()
	t.Logf("seed %d", seed)
	return &generator{t: t, rng: rand.New(rand.NewPCG(seed, 1)), next: 1}
}

// spec says what one batch looks like.
type spec struct {
	tenant, endpoint, contentType string
	records                       int
	// The records' times are spread from start on over spread.
	start   time.Time
	spread  time.Duration
	columns bool
}

// batch makes one batch, in the form that a client sends.
func (g *generator) batch(s spec) memtable.Batch {
	req := &storagepb.WriteBatchRequest{EndpointId: s.endpoint, ContentType: s.contentType}
	first := g.next
	var rows []*storagepb.DataRecord
	for range s.records {
		row := g.row(s)
		rows = append(rows, row)
		r := record{
			Tenant: s.tenant, Endpoint: s.endpoint, ContentType: s.contentType, EventID: [16]byte(row.EventId),
			TimeUnixNano: row.TimestampUnixNano, Version: int64(row.Version), Payload: string(row.Payload), LSN: int64(g.next),
		}
		if r.ContentType == "" {
			r.ContentType = batch.DefaultContentType
		}
		if len(row.Attributes) > 0 {
			text, err := json.Marshal(row.Attributes)
			require.NoError(g.t, err)
			r.Attributes = string(text)
		}
		g.sent = append(g.sent, r)
		g.next++
	}
	if s.columns {
		req.Columns = toColumns(rows)
	} else {
		req.Records = rows
	}
	raw, err := proto.Marshal(req)
	require.NoError(g.t, err)
	var h batch.Header
	require.Nil(g.t, batch.Validate(raw, s.tenant, batch.Limits{}, &h))
	return memtable.Batch{
		Raw: raw, First: first, Last: g.next - 1, MinTimeUnixNano: h.MinTimeUnixNano, MaxTimeUnixNano: h.MaxTimeUnixNano,
	}
}

func (g *generator) row(s spec) *storagepb.DataRecord {
	row := &storagepb.DataRecord{
		EventId:           make([]byte, 16),
		TimestampUnixNano: s.start.UnixNano() + g.rng.Int64N(int64(s.spread)+1),
		Version:           uint32(g.rng.IntN(3)) * 0x7fffffff,
		Payload:           make([]byte, g.rng.IntN(120)),
	}
	binary.LittleEndian.PutUint64(row.EventId, g.rng.Uint64())
	if g.v7 {
		binary.BigEndian.PutUint64(row.EventId, uint64(row.TimestampUnixNano/1e6)<<16|0x7000)
	}
	binary.LittleEndian.PutUint64(row.EventId[8:], g.next)
	for i := range row.Payload {
		row.Payload[i] = byte(g.rng.IntN(256))
	}
	switch g.rng.IntN(4) {
	case 0:
	case 1:
		row.Attributes = map[string]string{"request": fmt.Sprint(g.rng.Uint64())} // many different ones
	default:
		row.Attributes = map[string]string{"host": fmt.Sprint("h", g.rng.IntN(5)), "a": "naïve \u2603 \"quoted\""}
	}
	return row
}

func toColumns(rows []*storagepb.DataRecord) *storagepb.RecordColumns {
	c := &storagepb.RecordColumns{}
	byKey := map[string]*storagepb.AttributeColumn{}
	for _, key := range []string{"request", "host", "a"} {
		byKey[key] = &storagepb.AttributeColumn{Key: key}
		c.Attributes = append(c.Attributes, byKey[key])
	}
	for _, row := range rows {
		c.EventIds = append(c.EventIds, row.EventId...)
		c.TimestampsUnixNano = append(c.TimestampsUnixNano, row.TimestampUnixNano)
		c.Versions = append(c.Versions, row.Version)
		c.Payloads = append(c.Payloads, row.Payload...)
		c.PayloadLengths = append(c.PayloadLengths, uint32(len(row.Payload)))
		for key, column := range byKey {
			column.Values = append(column.Values, row.Attributes[key]...)
			column.ValueLengths = append(column.ValueLengths, uint32(len(row.Attributes[key])))
		}
	}
	return c
}

// generation puts batches, made in this order, into one generation.
func (g *generator) generation(specs ...spec) *memtable.Generation {
	type pair struct{ tenant, endpoint string }
	tables := map[pair]*memtable.Table{}
	gen := &memtable.Generation{First: g.next}
	for _, s := range specs {
		b := g.batch(s)
		table := tables[pair{s.tenant, s.endpoint}]
		if table == nil {
			table = &memtable.Table{Tenant: s.tenant, Endpoint: s.endpoint}
			tables[pair{s.tenant, s.endpoint}] = table
			gen.Tables = append(gen.Tables, table)
		}
		table.Batches = append(table.Batches, b)
		table.Records += b.Records()
		table.Bytes += int64(len(b.Raw))
	}
	slices.SortFunc(gen.Tables, func(a, b *memtable.Table) int {
		if c := strings.Compare(a.Tenant, b.Tenant); c != 0 {
			return c
		}
		return strings.Compare(a.Endpoint, b.Endpoint)
	})
	gen.Last = g.next - 1
	return gen
}

// store is a manifest and a sink over one file system.
type store struct {
	*parquetfile.Sink
	fsys     vfs.FS
	manifest *manifest.Manifest
	dir      string
}

// openStore opens both below root; change may adapt the options.
func openStore(t testing.TB, fsys vfs.FS, root string, change func(*parquetfile.Options)) *store {
	t.Helper()
	s, err := tryOpenStore(fsys, root, change)
	require.NoError(t, err)
	t.Cleanup(s.close)
	return s
}

func tryOpenStore(fsys vfs.FS, root string, change func(*parquetfile.Options)) (*store, error) {
	s := &store{fsys: fsys, dir: path.Join(root, parquetDir)}
	var err error
	s.manifest, err = manifest.Open(fsys, path.Join(root, manifestDir), manifest.Options{
		Logger: quiet, BeforeCreate: func() error { return parquetfile.CheckEmpty(fsys, s.dir) },
	})
	if err != nil {
		return nil, err
	}
	opts := parquetfile.Options{
		FS: fsys, Dir: s.dir, Manifest: s.manifest, SmallTableRows: 100, RowGroupRows: 2500,
		Logger: quiet, Registerer: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&opts)
	}
	if s.Sink, err = parquetfile.Open(opts); err != nil {
		_ = s.manifest.Close()
		return nil, err
	}
	return s, nil
}

func (s *store) close() {
	s.Close()
	_ = s.manifest.Close()
}

// files returns the paths of all files below the Parquet directory, relative to it.
func (s *store) files(t testing.TB) []string {
	t.Helper()
	var found []string
	var walk func(dir string)
	walk = func(dir string) {
		names, err := s.fsys.List(path.Join(s.dir, dir))
		require.NoError(t, err)
		for _, name := range names {
			below := path.Join(dir, name)
			if _, err := s.fsys.List(path.Join(s.dir, below)); err == nil {
				walk(below)
			} else {
				found = append(found, below)
			}
		}
	}
	walk(".")
	return found
}

// readAll reads every file of the manifest with arrow-go and returns the rows by LSN - 1, each once.
func (s *store) readAll(t testing.TB) []record {
	t.Helper()
	var all []record
	for _, f := range s.manifest.State().SortedFiles() {
		content, err := vfs.ReadFile(s.fsys, path.Join(s.dir, f.Path))
		require.NoError(t, err)
		require.Equal(t, f.Bytes, int64(len(content)))
		require.Equal(t, f.CRC32C, manifest.Checksum(content))
		rows := readFile(t, content)
		checkFile(t, f, rows)
		all = append(all, rows...)
	}
	slices.SortFunc(all, func(a, b record) int { return int(a.LSN - b.LSN) })
	return all
}

// checkFile compares a file's rows with what the manifest says of them.
func checkFile(t testing.TB, f manifest.File, rows []record) {
	t.Helper()
	require.Equal(t, f.Rows, int64(len(rows)))
	hour := rows[0].TimeUnixNano / int64(time.Hour)
	first, last, minTime, maxTime := rows[0].LSN, rows[0].LSN, rows[0].TimeUnixNano, rows[0].TimeUnixNano
	for i, r := range rows {
		require.Equal(t, f.Tenant, r.Tenant)
		if !f.Mixed {
			require.Equal(t, f.Endpoint, r.Endpoint)
		}
		if !strings.Contains(f.Path, "/hour=__mixed__/") {
			require.Equal(t, hour, r.TimeUnixNano/int64(time.Hour), "one hour a file")
		}
		if i > 0 {
			before := rows[i-1]
			sorted := before.Endpoint < r.Endpoint || before.Endpoint == r.Endpoint && before.TimeUnixNano <= r.TimeUnixNano
			require.True(t, sorted, "row %d of %s", i, f.Path)
		}
		first, last = min(first, r.LSN), max(last, r.LSN)
		minTime, maxTime = min(minTime, r.TimeUnixNano), max(maxTime, r.TimeUnixNano)
	}
	require.Equal(t, []int64{int64(f.FirstLSN), int64(f.LastLSN), f.MinTimeUnixNano, f.MaxTimeUnixNano},
		[]int64{first, last, minTime, maxTime})
}

// readFile reads a Parquet file with arrow-go, in the order of its rows.
func readFile(t testing.TB, content []byte) []record {
	t.Helper()
	table, err := pqarrow.ReadTable(t.Context(), bytes.NewReader(content), nil, pqarrow.ArrowReadProperties{},
		memory.DefaultAllocator)
	require.NoError(t, err)
	defer table.Release()
	var names []string
	for _, field := range table.Schema().Fields() {
		names = append(names, field.Name)
	}
	require.Equal(t, []string{"event_id", "timestamp", "version", "payload", "content_type", "attributes", "tenant_id",
		"endpoint_id", "lsn"}, names)
	reader := array.NewTableReader(table, -1)
	defer reader.Release()
	var rows []record
	for reader.Next() {
		rows = append(rows, readBatch(t, reader.RecordBatch())...)
	}
	require.NoError(t, reader.Err())
	return rows
}

func readBatch(t testing.TB, b arrow.RecordBatch) []record {
	t.Helper()
	column := func(i int) arrow.Array {
		if extension, ok := b.Column(i).(array.ExtensionArray); ok {
			return extension.Storage()
		}
		return b.Column(i)
	}
	text := func(i, row int) string {
		switch c := column(i).(type) {
		case *array.String:
			return c.Value(row)
		case *array.Binary:
			return string(c.Value(row))
		}
		require.Fail(t, "unexpected type", "column %d: %s", i, column(i).DataType())
		return ""
	}
	require.Equal(t, "timestamp[ns, tz=UTC]", column(1).DataType().String())
	rows := make([]record, b.NumRows())
	for i := range rows {
		rows[i] = record{
			EventID:      [16]byte(column(0).(*array.FixedSizeBinary).Value(i)),
			TimeUnixNano: int64(column(1).(*array.Timestamp).Value(i)),
			Version:      column(2).(*array.Int64).Value(i),
			Payload:      string(column(3).(*array.Binary).Value(i)),
			ContentType:  text(4, i),
			Tenant:       text(6, i),
			Endpoint:     text(7, i),
			LSN:          column(8).(*array.Int64).Value(i),
		}
		if column(5).IsValid(i) {
			rows[i].Attributes = text(5, i)
		}
	}
	return rows
}

// requireSame compares records one by one: a mismatch names the first record, not thousands.
func requireSame(t testing.TB, want, got []record) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		if want[i].Attributes != "" && want[i].Attributes != got[i].Attributes {
			require.JSONEq(t, want[i].Attributes, got[i].Attributes)
			got[i].Attributes = want[i].Attributes
		}
		require.Equal(t, want[i], got[i], "record %d", i)
	}
}
