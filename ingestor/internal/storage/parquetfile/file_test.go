package parquetfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// table makes the rows of a file directly, so that they may hold what no client can send.
type table struct {
	rows fileRows
	raw  []byte
}

func newTable(tenant string) *table {
	return &table{rows: fileRows{tenant: tenant, rows: &batch.Rows{}}}
}

// endBatch gives the rows since the last call a content type.
func (t *table) endBatch(contentType string) {
	t.rows.rows.Raws = append(t.rows.rows.Raws, t.raw)
	t.rows.rows.ContentTypes = append(t.rows.rows.ContentTypes, contentType)
	t.raw = nil
}

// endEndpoint gives the rows since the last call an endpoint.
func (t *table) endEndpoint(endpoint string) {
	t.rows.endpoints = append(t.rows.endpoints, endpointRun{endpoint, len(t.rows.refs)})
}

func (t *table) add(id [eventIDBytes]byte, time int64, version uint32, payload, attributes []byte, lsn uint64) {
	ref := batch.Ref{
		TimeUnixNano: time, LSN: lsn, Version: version, Batch: uint32(len(t.rows.rows.Raws)),
		EventOff: uint32(len(t.raw)), PayloadOff: uint32(len(t.raw)) + eventIDBytes, PayloadLen: uint32(len(payload)),
		AttrOff: uint64(len(t.rows.rows.Attrs)), AttrLen: uint32(len(attributes)),
	}
	t.raw = append(append(t.raw, id[:]...), payload...)
	t.rows.rows.Attrs = append(t.rows.rows.Attrs, attributes...)
	t.rows.refs = append(t.rows.refs, ref)
}

// shape says what random rows are like.
type shape struct {
	rows, endpoints, batchRows       int
	contentTypes, versions           int
	payloadBytes, distinctAttributes int
	nulls                            float64 // share of rows without attributes
	idBytes                          int     // how many bytes of an id are random
	wild                             bool    // times and LSNs from the whole range of 64 bits
}

// adversarial are shapes that have their own paths through the encoder.
var adversarial = map[string]shape{
	"one row":              {rows: 1, nulls: 0.5},
	"one row, empty":       {rows: 1, nulls: 1},
	"plain":                {rows: 3000, payloadBytes: 100, distinctAttributes: 5, nulls: 0.1, idBytes: 8},
	"row group":            {rows: 1000, payloadBytes: 20, distinctAttributes: 2},
	"row group and a row":  {rows: 1001, payloadBytes: 20, distinctAttributes: 2},
	"no attributes":        {rows: 2500, payloadBytes: 30, nulls: 1},
	"all attributes":       {rows: 2500, payloadBytes: 30, distinctAttributes: 1},
	"empty payloads":       {rows: 2500, distinctAttributes: 3, nulls: 0.5},
	"large payloads":       {rows: 60, payloadBytes: 64 << 10, nulls: 0.9},
	"different attributes": {rows: 2500, payloadBytes: 10, distinctAttributes: math.MaxInt32, nulls: 0.3},
	"many versions":        {rows: 3000, payloadBytes: 10, versions: math.MaxInt32},
	"mixed":                {rows: 3000, endpoints: 70, payloadBytes: 40, distinctAttributes: 9, nulls: 0.4},
	"content types":        {rows: 3000, batchRows: 7, contentTypes: 300, payloadBytes: 40},
	"wild":                 {rows: 3000, payloadBytes: 40, wild: true, idBytes: 16, distinctAttributes: 9, versions: 9},
	"dictionary overflow":  {rows: 900, payloadBytes: 10, distinctAttributes: -1, nulls: 0.1},
}

// random makes the rows of a shape.
func (s shape) random(rng *rand.Rand) *table {
	t := newTable("tenant-" + strings.Repeat("\u00e9", rng.IntN(60)))
	batchRows, endpoints := max(1, s.batchRows), max(1, s.endpoints)
	if s.batchRows == 0 {
		batchRows = 500
	}
	for i := range s.rows {
		if i > 0 && i%batchRows == 0 {
			t.endBatch(fmt.Sprintf("type/%d", rng.IntN(max(1, s.contentTypes))))
		}
		if endpoint := i * endpoints / s.rows; i > 0 && endpoint != (i-1)*endpoints/s.rows {
			t.endEndpoint(fmt.Sprintf("endpoint-%03d", endpoint-1))
		}
		t.add(s.id(rng, i), s.time(rng, i), s.version(rng), s.payload(rng), s.attributes(rng), s.lsn(rng, i))
	}
	t.endBatch("last/type")
	t.endEndpoint("zz-last")
	return t
}

func (s shape) id(rng *rand.Rand, i int) (id [eventIDBytes]byte) {
	binary.BigEndian.PutUint64(id[:], uint64(i/100)<<16|0x7000)
	for k := range s.idBytes {
		id[eventIDBytes-1-k] = byte(rng.Uint32())
	}
	return id
}

func (s shape) time(rng *rand.Rand, i int) int64 {
	if s.wild {
		return int64(rng.Uint64()) >> rng.IntN(64)
	}
	return -5000 + int64(i)*7
}

func (s shape) lsn(rng *rand.Rand, i int) uint64 {
	if s.wild {
		return rng.Uint64() >> (1 + rng.IntN(63))
	}
	return uint64(i + 1)
}

func (s shape) version(rng *rand.Rand) uint32 {
	switch s.versions {
	case 0:
		return 1
	case math.MaxInt32:
		return rng.Uint32()
	}
	return []uint32{0, 1, math.MaxUint32, math.MaxInt32, 300}[rng.IntN(min(5, s.versions))]
}

func (s shape) payload(rng *rand.Rand) []byte {
	if s.payloadBytes == 0 || rng.IntN(10) == 0 {
		return nil
	}
	payload := make([]byte, rng.IntN(s.payloadBytes+1))
	if rng.IntN(2) == 0 {
		return payload // zeros: compresses
	}
	for i := range payload {
		payload[i] = byte(rng.Uint32())
	}
	return payload
}

func (s shape) attributes(rng *rand.Rand) []byte {
	if rng.Float64() < s.nulls {
		return nil
	}
	if s.distinctAttributes < 0 { // some of them as large as a dictionary
		return fmt.Appendf(nil, `{"k":"%d%s"}`, rng.IntN(1000), strings.Repeat("x", rng.IntN(20_000)))
	}
	return fmt.Appendf(nil, `{"k":"%d"}`, rng.IntN(max(1, s.distinctAttributes)))
}

// encodeFile makes a file in memory and returns it with what verify wants of it.
func encodeFile(t testing.TB, w *writer, fsys *memoryFS, rows *fileRows) *written {
	t.Helper()
	fsys.content = nil
	w.output.reset(&memoryFile{fs: fsys}, false)
	want, err := w.encode(t.Context(), rows, len(rows.endpoints) > 1)
	require.NoError(t, err)
	want.sizeBytes, want.crc32c, err = w.output.finish()
	require.NoError(t, err)
	require.Equal(t, crc32.Checksum(fsys.content, castagnoli), want.crc32c)
	return want
}

// memoryFS is a file system with one file.
type memoryFS struct {
	vfs.FS
	content []byte
}

type memoryFile struct {
	vfs.File
	fs *memoryFS
}

func (f *memoryFS) OpenFile(string, int, fs.FileMode) (vfs.File, error) {
	return &memoryFile{fs: f}, nil
}

func (f *memoryFile) WriteAt(b []byte, offset int64) (int, error) {
	f.fs.content = append(f.fs.content[:offset], b...)
	return len(b), nil
}

func (f *memoryFile) ReadAt(b []byte, offset int64) (int, error) {
	return bytes.NewReader(f.fs.content).ReadAt(b, offset)
}

func (f *memoryFile) SizeBytes() (int64, error) { return int64(len(f.fs.content)), nil }
func (*memoryFile) Datasync() error             { return nil }
func (*memoryFile) Sync() error                 { return nil }
func (*memoryFile) Close() error                { return nil }

func newTestWriter(t testing.TB, compression Compression, bloom bool, threads, rowGroupRows int) *writer {
	t.Helper()
	w := &writer{rowGroupRows: rowGroupRows, output: newOutput()}
	for i := range threads {
		encoder, err := newEncoder(compression, bloom)
		require.NoError(t, err)
		l := &lane{encoder: encoder, verifier: &verifier{}}
		if i > 0 {
			l.worker, err = startWorker(0)
			require.NoError(t, err)
			t.Cleanup(l.worker.close)
		}
		w.lanes = append(w.lanes, l)
	}
	return w
}

// Every shape, with every codec: the verifier finds what was meant, and arrow-go reads identical bytes in every column.
func TestReadersSeeTheSameBytes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, compression := range []Compression{Zstd, Snappy, None} {
		w := newTestWriter(t, compression, compression != Snappy, 2, 1000)
		for name, s := range adversarial {
			t.Run(fmt.Sprint(compression, "/", name), func(t *testing.T) {
				rows, fsys := s.random(rng), &memoryFS{}
				want := encodeFile(t, w, fsys, &rows.rows)
				require.NoError(t, verify(w.lanes, fsys, "file", false, want))
				requireArrowReads(t, &rows.rows, fsys.content)
				w.lanes.letGo()
			})
		}
	}
}

// requireArrowReads compares a file, read by arrow-go, with its rows.
func requireArrowReads(t testing.TB, rows *fileRows, content []byte) {
	t.Helper()
	table, err := pqarrow.ReadTable(t.Context(), bytes.NewReader(content), nil, pqarrow.ArrowReadProperties{},
		memory.DefaultAllocator)
	require.NoError(t, err)
	defer table.Release()
	require.EqualValues(t, len(rows.refs), table.NumRows())
	require.EqualValues(t, columnCount, table.NumCols())
	for column := range columnCount {
		require.Equal(t, columnNames[column], table.Schema().Field(column).Name)
		row := 0
		for _, chunk := range table.Column(column).Data().Chunks() {
			for i := range chunk.Len() {
				if want, got := wantValue(rows, column, row), arrowValue(t, chunk, i); want != got {
					require.Equal(t, want, got, "column %s, row %d", columnNames[column], row)
				}
				row++
			}
		}
		require.Equal(t, len(rows.refs), row)
	}
}

// wantValue returns what a row has in a column: an int64, or bytes as a string, or nil.
func wantValue(rows *fileRows, column, row int) any {
	ref := &rows.refs[row]
	switch column {
	case columnEventID:
		return string(rows.eventID(ref))
	case columnTimestamp:
		return ref.TimeUnixNano
	case columnVersion:
		return int64(ref.Version)
	case columnPayload:
		return string(rows.payload(ref))
	case columnContentType:
		return rows.rows.ContentTypes[ref.Batch]
	case columnAttributes:
		if ref.AttrLen == 0 {
			return nil
		}
		return string(rows.attributes(ref))
	case columnTenantID:
		return rows.tenant
	case columnEndpointID:
		run := 0
		for rows.endpoints[run].end <= row {
			run++
		}
		return rows.endpoints[run].endpoint
	}
	return int64(ref.LSN)
}

func arrowValue(t testing.TB, chunk arrow.Array, i int) any {
	t.Helper()
	if extension, ok := chunk.(array.ExtensionArray); ok {
		chunk = extension.Storage()
	}
	if chunk.IsNull(i) {
		return nil
	}
	switch c := chunk.(type) {
	case *array.Int64:
		return c.Value(i)
	case *array.Timestamp:
		return int64(c.Value(i))
	case *array.String:
		return c.Value(i)
	case *array.Binary:
		return string(c.Value(i))
	case *array.FixedSizeBinary:
		return string(c.Value(i))
	}
	require.Fail(t, "unexpected type", "%s", chunk.DataType())
	return nil
}

// The verifier compares with the records, so whatever an encoder might get wrong in one value of one column is found.
func TestVerifierSeesEveryValue(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	changes := map[string]func(rows *fileRows, ref *batch.Ref, row int) bool{
		"event_id":  func(rows *fileRows, ref *batch.Ref, _ int) bool { rows.eventID(ref)[rng.IntN(16)] ^= 1; return true },
		"timestamp": func(_ *fileRows, ref *batch.Ref, _ int) bool { ref.TimeUnixNano++; return true },
		"version":   func(_ *fileRows, ref *batch.Ref, _ int) bool { ref.Version ^= 2; return true },
		"lsn":       func(_ *fileRows, ref *batch.Ref, _ int) bool { ref.LSN ^= 2; return true },
		"payload": func(rows *fileRows, ref *batch.Ref, _ int) bool {
			if ref.PayloadLen > 0 {
				rows.payload(ref)[rng.IntN(int(ref.PayloadLen))] ^= 1
			}
			return ref.PayloadLen > 0
		},
		"payload length": func(_ *fileRows, ref *batch.Ref, _ int) bool {
			if ref.PayloadLen > 0 {
				ref.PayloadLen--
				return true
			}
			return false
		},
		"attributes": func(rows *fileRows, ref *batch.Ref, _ int) bool {
			if ref.AttrLen > 0 {
				rows.attributes(ref)[6] ^= 1
			}
			return ref.AttrLen > 0
		},
		"attributes null": func(_ *fileRows, ref *batch.Ref, _ int) bool {
			had := ref.AttrLen > 0
			ref.AttrLen = 0
			return had
		},
		"content_type": func(rows *fileRows, ref *batch.Ref, _ int) bool {
			rows.rows.ContentTypes[ref.Batch] += "x"
			return true
		},
		"tenant_id": func(rows *fileRows, _ *batch.Ref, _ int) bool { rows.tenant += "x"; return true },
		"endpoint_id": func(rows *fileRows, _ *batch.Ref, row int) bool {
			for i := range rows.endpoints {
				if rows.endpoints[i].end > row {
					rows.endpoints[i].endpoint += "x"
					return true
				}
			}
			return false
		},
	}
	w := newTestWriter(t, Zstd, false, 1, 1000)
	for _, name := range []string{"plain", "mixed", "content types", "different attributes", "many versions", "wild", "large payloads"} {
		for change, apply := range changes {
			tried := 0
			for range 5 {
				rows, fsys := adversarial[name].random(rng), &memoryFS{}
				want := encodeFile(t, w, fsys, &rows.rows)
				row := rng.IntN(len(rows.rows.refs))
				if !apply(&rows.rows, &rows.rows.refs[row], row) {
					continue
				}
				tried++
				var mismatch *MismatchError
				require.ErrorAs(t, verify(w.lanes, fsys, "file", false, want), &mismatch, "%s: %s of row %d", name, change, row)
			}
			require.True(t, tried > 0 || strings.HasPrefix(change, "attributes"), "%s: %s", name, change)
		}
	}
}

// A bit that is wrong anywhere in the file is found, also where no reader would look.
func TestVerifierSeesEveryBit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newTestWriter(t, Zstd, true, 1, 1000)
	rows, fsys := adversarial["plain"].random(rng), &memoryFS{}
	want := encodeFile(t, w, fsys, &rows.rows)
	require.NoError(t, verify(w.lanes, fsys, "file", false, want))
	for offset := rng.IntN(100); offset < len(fsys.content); offset += 1 + rng.IntN(len(fsys.content)/500) {
		before := fsys.content[offset]
		fsys.content[offset] ^= 1 << rng.IntN(8)
		var mismatch *MismatchError
		require.ErrorAs(t, verify(w.lanes, fsys, "file", false, want), &mismatch, "byte %d", offset)
		fsys.content[offset] = before
	}
}

// Two threads make the same file as one.
func TestThreadsDoNotChangeTheFile(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	one, four := newTestWriter(t, Zstd, true, 1, 100), newTestWriter(t, Zstd, true, 4, 100)
	for name, s := range adversarial {
		rows, alone, together := s.random(rng), &memoryFS{}, &memoryFS{}
		encodeFile(t, one, alone, &rows.rows)
		want := encodeFile(t, four, together, &rows.rows)
		require.True(t, bytes.Equal(alone.content, together.content), name)
		require.NoError(t, verify(four.lanes, together, "file", false, want))
	}
}

// A row group that cannot be encoded ends the others, and nothing waits for ever.
func TestLanesEndAfterAnError(t *testing.T) {
	w := newTestWriter(t, None, false, 4, 1)
	failure := errors.New("failure")
	for failing := range 20 {
		turns := newTurns()
		written := 0
		err := w.lanes.each(20, func(_ *lane, i int) error {
			if i == failing && i%2 == 0 {
				turns.abandon()
				return failure
			}
			return turns.take(i, func() error {
				require.Equal(t, written, i)
				if i == failing {
					return failure
				}
				written++
				return nil
			})
		})
		require.ErrorIs(t, err, failure)
		require.LessOrEqual(t, written, failing)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add(uint64(1), uint16(100), uint8(3), uint16(50), int16(4), uint8(100), true)
	f.Add(uint64(2), uint16(1), uint8(0), uint16(0), int16(-1), uint8(255), false)
	f.Fuzz(func(t *testing.T, seed uint64, rows uint16, endpoints uint8, payload uint16, attributes int16, nulls uint8, wild bool) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := shape{
			rows: 1 + int(rows)%3000, payloadBytes: int(payload) % 4096, distinctAttributes: int(attributes),
			nulls: float64(nulls) / 255, wild: wild, idBytes: rng.IntN(17), batchRows: 1 + rng.IntN(700),
			contentTypes: rng.IntN(9), versions: rng.IntN(6),
		}
		s.endpoints = min(int(endpoints), s.rows)
		if attributes < 0 {
			s.rows = min(s.rows, 300)
			s.endpoints = min(s.endpoints, s.rows)
		}
		table, fsys := s.random(rng), &memoryFS{}
		compression := []Compression{Zstd, Snappy, None}[rng.IntN(3)]
		w := newTestWriter(t, compression, rng.IntN(2) == 0, 1+rng.IntN(2), 1+rng.IntN(2000))
		want := encodeFile(t, w, fsys, &table.rows)
		require.NoError(t, verify(w.lanes, fsys, "file", false, want))
		requireArrowReads(t, &table.rows, fsys.content)
	})
}
