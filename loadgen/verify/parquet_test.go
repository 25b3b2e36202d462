package verify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite{Tests: m}) }

// storedRow is a row of a data file, as its documentation gives it.
type storedRow struct {
	EventID     [16]byte `parquet:"event_id,uuid"`
	Timestamp   int64    `parquet:"timestamp,delta,timestamp(nanosecond:utc)"`
	Version     int64    `parquet:"version,dict"`
	Payload     []byte   `parquet:"payload"`
	ContentType string   `parquet:"content_type,dict"`
	Attributes  string   `parquet:"attributes,optional,dict"`
	TenantID    string   `parquet:"tenant_id,dict"`
	EndpointID  string   `parquet:"endpoint_id,dict"`
	LSN         int64    `parquet:"lsn,delta"`
}

// world is a run with its ledger, and what a server without fault would have stored.
type world struct {
	t          testing.TB
	dir        string
	ledgerPath string
	source     record.Source
	header     ledger.Header
	rows       [][]storedRow // by batch, in the order of their LSNs
}

const (
	worldBatches   = 60
	worldRecords   = 50
	worldProducers = 3
	// Batches with these numbers have another fate than to be acked and stored.
	unknownStored = 10
	unknownLost   = worldBatches - 1 // the last one of its producer
	refused       = 12
)

var worldTime = time.Date(2026, 3, 1, 10, 59, 59, 900e6, time.UTC)

// newWorld sends batches that cross an hour, round three producers, two tenants and two endpoints.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), ledgerPath: filepath.Join(t.TempDir(), "ledger")}
	spec := record.Spec{Seed: 1, Attributes: 1, PayloadSpreadBytes: 20}.WithDefaults()
	w.source = spec
	w.header = ledger.Header{
		Kind: ledger.Records, Spec: spec, Tenants: []string{"acme", "bolt"}, Endpoints: []string{"orders", "clicks/ü"},
	}
	book, err := ledger.Create(w.ledgerPath, w.header)
	require.NoError(t, err)
	next := uint64(1)
	for i := range worldBatches {
		b := record.Batch{
			Producer: uint16(i % worldProducers), Sequence: uint64(i/worldProducers) + 1,
			UnixMilli: worldTime.UnixMilli() + int64(i)*5, Records: worldRecords, Endpoint: uint32(i % 2),
		}
		tenant := uint32(i % worldProducers % 2)
		require.NoError(t, book.Sent(ledger.Sent{Batch: b, Epoch: 1, Tenant: tenant}))
		switch i {
		case refused:
			require.NoError(t, book.Refused(ledger.Refused{Producer: b.Producer, Epoch: 1, Sequence: b.Sequence, Code: 10}))
		case unknownStored, unknownLost:
		default:
			require.NoError(t, book.Acked(ledger.Acked{
				Producer: b.Producer, Epoch: 1, Sequence: b.Sequence, FirstLSN: next, Records: b.Records, Level: 2,
			}))
		}
		if i == refused || i == unknownLost {
			w.rows = append(w.rows, nil)
			continue
		}
		w.rows = append(w.rows, w.batchRows(b, tenant, next))
		next += worldRecords
	}
	require.NoError(t, book.Close())
	return w
}

// batchRows is how a batch is stored.
func (w *world) batchRows(b record.Batch, tenant uint32, first uint64) []storedRow {
	var rows []storedRow
	for i := range b.Records {
		var r record.Record
		w.source.Fill(&r, b, i)
		row := storedRow{
			EventID: r.ID, Timestamp: r.TimestampUnixNano, Version: int64(r.Version), Payload: r.Payload,
			ContentType: "application/json", TenantID: w.header.Tenants[tenant], EndpointID: w.header.Endpoints[b.Endpoint],
			LSN: int64(first + uint64(i)),
		}
		row.Attributes = string(record.AppendAttributesJSON(nil, r.Attributes))
		rows = append(rows, row)
	}
	return rows
}

// store writes all rows into files by tenant and hour, and the manifest that lists them.
func (w *world) store() []map[string]any {
	w.t.Helper()
	type place struct{ tenant, hour string }
	files := make(map[place][]storedRow)
	for _, batch := range w.rows {
		for _, r := range batch {
			hour := time.Unix(0, r.Timestamp).UTC().Format("date=2006-01-02/hour=15")
			p := place{r.TenantID, hour}
			files[p] = append(files[p], r)
		}
	}
	var listed []map[string]any
	for p, rows := range files {
		path := fmt.Sprintf("tenant=%s/endpoint=__mixed__/%s/%020d.parquet", p.tenant, p.hour, rows[0].LSN)
		listed = append(listed, w.writeFile(path, p.tenant, rows))
	}
	w.writeManifest(listed)
	return listed
}

func (w *world) writeFile(path, tenant string, rows []storedRow) map[string]any {
	w.t.Helper()
	full := filepath.Join(w.dir, parquetDirectory, path)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(full), 0o755))
	f, err := os.Create(full)
	require.NoError(w.t, err)
	writer := parquet.NewGenericWriter[storedRow](f, parquet.Compression(&zstd.Codec{}), parquet.PageBufferSize(4<<10),
		parquet.MaxRowsPerRowGroup(700), parquet.DefaultEncodingFor(parquet.ByteArray, &parquet.DeltaLengthByteArray))
	_, err = writer.Write(rows)
	require.NoError(w.t, err)
	require.NoError(w.t, writer.Close())
	require.NoError(w.t, f.Close())
	content, err := os.ReadFile(full)
	require.NoError(w.t, err)
	first, last := rows[0].LSN, rows[0].LSN
	for _, r := range rows {
		first, last = min(first, r.LSN), max(last, r.LSN)
	}
	return map[string]any{
		"path": path, "tenant": tenant, "mixed": true, "first_lsn": first, "last_lsn": last, "rows": len(rows),
		"bytes": len(content), "crc32c": fmt.Sprintf("%08x", crc32.Checksum(content, castagnoli)),
	}
}

// writeManifest writes a manifest whose second line adds the files and whose last line is torn.
func (w *world) writeManifest(listed []map[string]any) {
	w.t.Helper()
	content := manifestText(w.t, map[string]any{"seq": 4, "snapshot": true, "format": 1})
	content += manifestText(w.t, map[string]any{"seq": 5, "add_files": listed})
	content += `{"crc32c":"0000`
	path := filepath.Join(w.dir, manifestPath)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(w.t, os.WriteFile(path, []byte(content), 0o644))
}

func manifestText(t testing.TB, edit map[string]any) string {
	t.Helper()
	text, err := json.Marshal(edit)
	require.NoError(t, err)
	return fmt.Sprintf("{\"crc32c\":\"%08x\",\"edit\":%s}\n", crc32.Checksum(text, castagnoli), text)
}

func (w *world) judge() *Report {
	w.t.Helper()
	report, err := Parquet(w.t.Context(), w.dir, w.ledgerPath)
	require.NoError(w.t, err)
	return report
}

const (
	worldSent  = worldBatches * worldRecords
	worldAcked = (worldBatches - 3) * worldRecords
	worldRows  = (worldBatches - 2) * worldRecords
)

func TestWhatIsStoredRightIsFoundRight(t *testing.T) {
	w := newWorld(t)
	files := w.store()
	report := w.judge()
	require.True(t, report.OK(), "%s\n%+v", report, report.Examples)
	require.Equal(t, Report{
		Source: "parquet", Sent: worldSent, Acked: worldAcked, Unknown: 2 * worldRecords, Refused: worldRecords,
		Rows: worldRows, UnknownStored: worldRecords, Files: uint64(len(files)),
	}, *report)
}

// TestEachFaultIsFound plants one fault at a time, and expects that and nothing else.
func TestEachFaultIsFound(t *testing.T) {
	corrupt := func(change func(r *storedRow)) func(w *world) {
		return func(w *world) { change(&w.rows[20][7]) }
	}
	for name, test := range map[string]struct {
		plant func(w *world)
		want  Report // the faults alone
	}{
		"record missing": {
			func(w *world) { w.rows[20] = append(w.rows[20][:7:7], w.rows[20][8:]...) },
			Report{Missing: 1, PartialBatches: 1},
		},
		"batch missing":            {func(w *world) { w.rows[20] = nil }, Report{Missing: worldRecords}},
		"record twice":             {func(w *world) { w.rows[20] = append(w.rows[20], w.rows[20][3]) }, Report{Duplicate: 1}},
		"unknown batch in part":    {func(w *world) { w.rows[unknownStored] = w.rows[unknownStored][5:] }, Report{PartialBatches: 1}},
		"payload":                  {corrupt(func(r *storedRow) { r.Payload[len(r.Payload)-3] ^= 1 }), Report{Corrupt: 1}},
		"payload cut":              {corrupt(func(r *storedRow) { r.Payload = r.Payload[:20] }), Report{Corrupt: 1}},
		"timestamp":                {corrupt(func(r *storedRow) { r.Timestamp++ }), Report{Corrupt: 1}},
		"version":                  {corrupt(func(r *storedRow) { r.Version++ }), Report{Corrupt: 1}},
		"content type":             {corrupt(func(r *storedRow) { r.ContentType = "text/plain" }), Report{Corrupt: 1}},
		"attributes":               {corrupt(func(r *storedRow) { r.Attributes = `{"attr_0":"x"}` }), Report{Corrupt: 1}},
		"attributes lost":          {corrupt(func(r *storedRow) { r.Attributes = "" }), Report{Corrupt: 1}},
		"attributes spaced":        {corrupt(func(r *storedRow) { r.Attributes = " " + r.Attributes }), Report{}},
		"tenant":                   {corrupt(func(r *storedRow) { r.TenantID = "cora" }), Report{Corrupt: 1}},
		"endpoint":                 {corrupt(func(r *storedRow) { r.EndpointID = "clicks" }), Report{Corrupt: 1}},
		"lsn":                      {corrupt(func(r *storedRow) { r.LSN += 5 }), Report{Corrupt: 1}},
		"lsn of an unknown record": {func(w *world) { w.rows[unknownStored][3].LSN++ }, Report{Corrupt: 1}},
		"foreign id": {
			func(w *world) { w.rows[20] = append(w.rows[20], foreign(w.rows[20][3], [16]byte{1, 2, 3})) },
			Report{Unexpected: 1},
		},
		"index never sent": {
			func(w *world) {
				id, _ := record.Parse(w.rows[20][3].EventID)
				id.Index = worldRecords
				w.rows[20] = append(w.rows[20], foreign(w.rows[20][3], id.ID()))
			},
			Report{Unexpected: 1},
		},
		"time never sent": {
			func(w *world) {
				id, _ := record.Parse(w.rows[20][3].EventID)
				id.UnixMilli++
				w.rows[20] = append(w.rows[20], foreign(w.rows[20][3], id.ID()))
			},
			Report{Unexpected: 1},
		},
		"refused batch stored": {
			func(w *world) {
				w.rows[refused] = w.batchRows(record.Batch{
					Producer: refused % worldProducers, Sequence: refused/worldProducers + 1,
					UnixMilli: worldTime.UnixMilli() + refused*5, Records: worldRecords, Endpoint: refused % 2,
				}, 0, 1_000_000)
			},
			Report{Unexpected: worldRecords},
		},
		"unknown batch gone before its successors": {func(w *world) { w.rows[unknownStored] = nil }, Report{Holes: 1}},
		"unknown batch behind its successors": {
			func(w *world) { w.move(unknownStored, 1_000_000) },
			Report{OutOfOrder: 1},
		},
		"unknown batch over another's LSNs": {
			func(w *world) { w.move(unknownStored, w.rows[unknownStored-1][5].LSN) },
			Report{OutOfOrder: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.plant(w)
			w.store()
			got := w.judge()
			faults := Report{
				Missing: got.Missing, Duplicate: got.Duplicate, Corrupt: got.Corrupt, Unexpected: got.Unexpected,
				PartialBatches: got.PartialBatches, OutOfOrder: got.OutOfOrder, Holes: got.Holes, FilesMissing: got.FilesMissing,
			}
			want := test.want
			require.Equal(t, want, faults, "%+v", got.Examples)
			require.Equal(t, want.OK(), got.OK())
			if !got.OK() {
				require.NotEmpty(t, got.Examples)
			}
		})
	}
}

func foreign(r storedRow, id [16]byte) storedRow {
	r.EventID = id
	return r
}

// move gives a batch other LSNs.
func (w *world) move(batch int, first int64) {
	for i := range w.rows[batch] {
		w.rows[batch][i].LSN = first + int64(i)
	}
}

func TestFilesAreHeldAgainstTheManifest(t *testing.T) {
	for name, plant := range map[string]func(w *world, listed []map[string]any, path string){
		"missing":              func(_ *world, _ []map[string]any, path string) { require.NoError(t, os.Remove(path)) },
		"cut":                  func(_ *world, _ []map[string]any, path string) { require.NoError(t, os.Truncate(path, 100)) },
		"other number of rows": func(w *world, listed []map[string]any, _ string) { listed[0]["rows"] = 1; w.writeManifest(listed) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			listed := w.store()
			plant(w, listed, filepath.Join(w.dir, parquetDirectory, listed[0]["path"].(string)))
			report := w.judge()
			require.Equal(t, uint64(1), report.FilesMissing)
			require.False(t, report.OK())
		})
	}
	t.Run("in another tenant's directory", func(t *testing.T) {
		w := newWorld(t)
		listed := w.store()
		listed[0]["tenant"] = "cora"
		w.writeManifest(listed)
		require.Equal(t, uint64(listed[0]["rows"].(int)), w.judge().Corrupt)
	})
	t.Run("unlisted", func(t *testing.T) {
		w := newWorld(t)
		w.store()
		w.writeFile("tenant=acme/endpoint=x/date=2026-03-01/hour=10/leftover.parquet", "acme", w.rows[0])
		report := w.judge()
		require.Equal(t, uint64(1), report.FilesUnlisted)
		require.True(t, report.OK(), "leftovers are not data")
	})
}

func TestDamagedManifestGivesNoJudgement(t *testing.T) {
	w := newWorld(t)
	w.store()
	path := filepath.Join(w.dir, manifestPath)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	content[len(content)/2] ^= 1
	content = append(content, '\n')
	content = append(content, content[:50]...)
	require.NoError(t, os.WriteFile(path, content, 0o644))
	_, err = Parquet(t.Context(), w.dir, w.ledgerPath)
	require.Error(t, err)
}

// TestATornManifestIsReadUpToTheTear: sectors of the last line may hold anything, line breaks too.
func TestATornManifestIsReadUpToTheTear(t *testing.T) {
	next := manifestText(t, map[string]any{"seq": 6, "flushed": map[string]uint64{"parquet": 7}})
	for name, test := range map[string]struct {
		tail string
		torn bool
	}{
		"no end":                      {next[:30], true},
		"zeros before the end":        {"\x00\x00\x00" + next[3:], true},
		"garbage with line breaks":    {"\x93\n\x17\n" + next[4:], true},
		"garbage behind a line break": {next[:20] + "\n\x93" + next[22:], true},
		"two wrong lines of text":     {"{\"crc32c\":\"00000000\"" + next[20:] + "x\n", false},
		"a right line after garbage":  {"\x93\n" + next, false},
	} {
		w := newWorld(t)
		w.store()
		path := filepath.Join(w.dir, manifestPath)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		content = append(content[:bytes.LastIndexByte(content, '\n')+1], test.tail...)
		require.NoError(t, os.WriteFile(path, content, 0o644))
		m, err := ReadManifest(w.dir)
		require.Equal(t, test.torn, err == nil, "%s: %v", name, err)
		if err == nil {
			require.Empty(t, m.Flushed, name)
		}
	}
}

func TestEmptyDirectoryMissesEverythingAcked(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, uint64(worldAcked), w.judge().Missing)
}

// TestSeveralLedgersAreJudgedTogether: runs under the same producer numbers are told apart by their times.
func TestSeveralLedgersAreJudgedTogether(t *testing.T) {
	w := newWorld(t)
	second := filepath.Join(t.TempDir(), "second")
	book, err := ledger.Create(second, w.header)
	require.NoError(t, err)
	b := record.Batch{Sequence: 1, UnixMilli: worldTime.UnixMilli() + 60_000, Records: 5}
	require.NoError(t, book.Sent(ledger.Sent{Batch: b}))
	require.NoError(t, book.Acked(ledger.Acked{Sequence: 1, FirstLSN: 90_000, Records: 5, Level: 2}))
	require.NoError(t, book.Close())
	w.rows = append(w.rows, w.batchRows(b, 0, 90_000))
	w.store()
	report, err := Parquet(t.Context(), w.dir, w.ledgerPath, second)
	require.NoError(t, err)
	require.True(t, report.OK(), "%+v", report.Examples)
	require.Equal(t, uint64(worldAcked+5), report.Acked)
	require.Equal(t, uint64(5), w.judge().Unexpected, "without the second ledger")
}

// TestBufferedRecordsMayBeLostByACrashOnly: whole batches only, and only where the ledger knows of a crash.
func TestBufferedRecordsMayBeLostByACrashOnly(t *testing.T) {
	const batches = 6
	for name, test := range map[string]struct {
		crashed bool
		plant   func(w *world)
		want    Report
	}{
		"lost by a crash":          {true, func(w *world) { w.rows[2] = nil }, Report{BufferedLost: worldRecords}},
		"lost without a crash":     {false, func(w *world) { w.rows[2] = nil }, Report{Missing: worldRecords}},
		"half applied":             {true, func(w *world) { w.rows[2] = w.rows[2][9:] }, Report{Missing: 9, PartialBatches: 1}},
		"doubled":                  {true, func(w *world) { w.rows[2] = append(w.rows[2], w.rows[2]...) }, Report{Duplicate: worldRecords}},
		"unanswered, lost":         {true, func(w *world) { w.rows[batches-2] = nil }, Report{}},
		"unanswered, half applied": {true, func(w *world) { w.rows[batches-2] = w.rows[batches-2][1:] }, Report{PartialBatches: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.rows, w.header.AckLevel = nil, buffered
			w.ledgerPath = filepath.Join(t.TempDir(), "buffered")
			book, err := ledger.Create(w.ledgerPath, w.header)
			require.NoError(t, err)
			for i := range uint64(batches) {
				b := record.Batch{Sequence: i + 1, UnixMilli: worldTime.UnixMilli(), Records: worldRecords}
				require.NoError(t, book.Sent(ledger.Sent{Batch: b}))
				if i != batches-2 {
					require.NoError(t, book.Acked(ledger.Acked{Sequence: i + 1, Records: worldRecords, Level: buffered}))
				}
				w.rows = append(w.rows, w.batchRows(b, 0, i*worldRecords+1))
			}
			if test.crashed {
				require.NoError(t, book.Crashed())
			}
			require.NoError(t, book.Close())
			test.plant(w)
			w.store()
			got := w.judge()
			faults := Report{
				Missing: got.Missing, Duplicate: got.Duplicate, Corrupt: got.Corrupt, Unexpected: got.Unexpected, BufferedLost: got.BufferedLost,
				PartialBatches: got.PartialBatches, OutOfOrder: got.OutOfOrder, Holes: got.Holes,
			}
			require.Equal(t, test.want, faults, "%+v", got.Examples)
		})
	}
}

// TestABatchThatWasTurnedDownMayBeAHole: while it was, a later one was under way.
func TestABatchThatWasTurnedDownMayBeAHole(t *testing.T) {
	for _, turnedDown := range []bool{false, true} {
		w := newWorld(t)
		w.rows = nil
		w.ledgerPath = filepath.Join(t.TempDir(), "turned-down")
		book, err := ledger.Create(w.ledgerPath, w.header)
		require.NoError(t, err)
		for sequence := uint64(1); sequence <= 2; sequence++ {
			b := record.Batch{Sequence: sequence, UnixMilli: worldTime.UnixMilli(), Records: worldRecords}
			require.NoError(t, book.Sent(ledger.Sent{Batch: b}))
			if sequence == 2 {
				require.NoError(t, book.Acked(ledger.Acked{Sequence: sequence, FirstLSN: 1, Records: worldRecords, Level: 2}))
				w.rows = append(w.rows, w.batchRows(b, 0, 1))
			}
		}
		if turnedDown {
			require.NoError(t, book.TurnedDown(ledger.Refused{Sequence: 1, Code: 11}))
		}
		require.NoError(t, book.Close())
		w.store()
		require.Equal(t, !turnedDown, w.judge().Holes == 1)
		require.Equal(t, turnedDown, w.judge().OK())
	}
}
