package parquetfile_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

const (
	benchBatches = 250
	benchBatch   = 1000
	manyRecords  = 25
)

// benchRequests makes batches of about 145 bytes a record, as sensors send them.
func benchRequests(b *testing.B) [][]byte {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	raws := make([][]byte, benchBatches)
	for i := range raws {
		req := &storagepb.WriteBatchRequest{EndpointId: "sensors"}
		for j := range benchBatch {
			at := noon.Add(time.Duration(i*benchBatch+j) * time.Microsecond)
			id := make([]byte, 16)
			binary.BigEndian.PutUint64(id, uint64(at.UnixMilli())<<16|0x7000)
			binary.BigEndian.PutUint64(id[8:], rng.Uint64())
			req.Records = append(req.Records, &storagepb.DataRecord{
				EventId: id, TimestampUnixNano: at.UnixNano(), Version: 1,
				Payload: fmt.Appendf(nil, `{"temperature":%.3f,"humidity":%.3f,"battery":%d,"status":"ok"}`,
					rng.NormFloat64()*5+20, rng.Float64()*100, rng.IntN(100)),
				Attributes: map[string]string{"host": fmt.Sprint("host-", i%16), "region": "eu"},
			})
		}
		var err error
		raws[i], err = proto.Marshal(req)
		require.NoError(b, err)
	}
	return raws
}

func benchGeneration(raws [][]byte, first uint64) *memtable.Generation {
	table := &memtable.Table{Tenant: "acme", Endpoint: "sensors"}
	next := first
	for _, raw := range raws {
		table.Batches = append(table.Batches, memtable.Batch{Raw: raw, First: next, Last: next + benchBatch - 1})
		table.Records += benchBatch
		next += benchBatch
	}
	return &memtable.Generation{First: first, Last: next - 1, Tables: []*memtable.Table{table}}
}

// cpuTime returns what the process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// reportRecords reports elapsed time, and processor time, which other load on the machine disturbs less.
func reportRecords(b *testing.B, cpuBefore time.Duration) {
	records := float64(b.N) * benchBatches * benchBatch
	b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(records/(cpuTime(b)-cpuBefore).Seconds(), "records/cpu-s")
}

// mallocs counts what was allocated so far.
func mallocs() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}

// reportAllocs reports allocations a record.
func reportAllocs(b *testing.B, before uint64) {
	b.ReportMetric(float64(mallocs()-before)/(float64(b.N)*benchBatches*benchBatch), "allocs/record")
}

// BenchmarkFlush is the whole way of a generation: decode, sort, encode, fsync, read back, commit.
func BenchmarkFlush(b *testing.B) {
	raws := benchRequests(b)
	for _, compression := range []parquetfile.Compression{parquetfile.Zstd, parquetfile.Snappy, parquetfile.None} {
		b.Run(string(compression), func(b *testing.B) {
			s := openStore(b, vfs.OS, b.TempDir(), func(o *parquetfile.Options) {
				o.Compression, o.RowGroupRows = compression, parquetfile.DefaultRowGroupRows
				o.DirectIO = true
			})
			b.ReportAllocs()
			last, cpu, allocs := uint64(0), cpuTime(b), mallocs()
			for b.Loop() {
				gen := benchGeneration(raws, last+1)
				require.NoError(b, s.Flush(b.Context(), gen, last))
				last = gen.Last
			}
			reportRecords(b, cpu)
			reportAllocs(b, allocs)
			var bytes, rows int64
			for _, f := range s.manifest.State().Files {
				bytes += f.Bytes
				rows += f.Rows
			}
			b.ReportMetric(float64(bytes)/float64(rows), "file-bytes/record")
		})
	}
}

// genericRow is what GenericWriter stores: the same columns, with the encodings that come nearest.
type genericRow struct {
	EventID     [16]byte `parquet:"event_id,uuid"`
	Timestamp   int64    `parquet:"timestamp,delta,timestamp(nanosecond)"`
	Version     int64    `parquet:"version,dict"`
	Payload     []byte   `parquet:"payload,delta"`
	ContentType string   `parquet:"content_type,dict"`
	Attributes  string   `parquet:"attributes,optional,dict"`
	TenantID    string   `parquet:"tenant_id,dict"`
	EndpointID  string   `parquet:"endpoint_id,dict"`
	LSN         int64    `parquet:"lsn,delta"`
}

// genericWriter is parquet-go's own way for the same rows: no file, no read-back.
type genericWriter struct {
	writer *parquet.GenericWriter[genericRow]
	rows   []genericRow
	decode batch.Rows
}

func newGenericWriter() *genericWriter {
	return &genericWriter{
		writer: parquet.NewGenericWriter[genericRow](io.Discard, parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest})),
		rows:   make([]genericRow, benchBatch),
	}
}

// write stores all batches; decode turns one into g.rows.
func (g *genericWriter) write(b *testing.B, raws [][]byte, decode func(raw []byte, firstLSN int64)) {
	g.writer.Reset(io.Discard)
	for i, raw := range raws {
		decode(raw, int64(1+i*benchBatch))
		_, err := g.writer.Write(g.rows)
		require.NoError(b, err)
	}
	require.NoError(b, g.writer.Close())
}

// generated decodes by the generated code: a message for each record.
func (g *genericWriter) generated(b *testing.B) func([]byte, int64) {
	return func(raw []byte, lsn int64) {
		var req storagepb.WriteBatchRequest
		require.NoError(b, proto.Unmarshal(raw, &req))
		for i, r := range req.Records {
			attributes, err := json.Marshal(r.Attributes)
			if err != nil {
				b.Fatal(err)
			}
			g.rows[i] = genericRow{
				EventID: [16]byte(r.EventId), Timestamp: r.TimestampUnixNano, Version: int64(r.Version), Payload: r.Payload,
				ContentType: "application/json", Attributes: string(attributes), TenantID: "acme", EndpointID: "sensors",
				LSN: lsn + int64(i),
			}
		}
	}
}

// shared decodes as the sink does, so that only the writers differ. Nothing is copied or allocated for a record.
func (g *genericWriter) shared(b *testing.B) func([]byte, int64) {
	return func(raw []byte, lsn int64) {
		g.decode.Reset()
		require.NoError(b, g.decode.AppendBatch(raw, uint64(lsn)))
		for i := range g.rows {
			ref, attributes := &g.decode.Refs[i], g.decode.Attributes(i)
			g.rows[i] = genericRow{
				EventID: [16]byte(g.decode.EventID(i)), Timestamp: ref.TimeUnixNano, Version: int64(ref.Version),
				Payload: g.decode.Payload(i), ContentType: g.decode.ContentType(i),
				Attributes: unsafe.String(unsafe.SliceData(attributes), len(attributes)), TenantID: "acme", EndpointID: "sensors",
				LSN: int64(ref.LSN),
			}
		}
	}
}

// BenchmarkCompare takes turns between ways of storing the same rows with zstd at its fastest, decoding included, so that
// other load on the machine disturbs all of them alike. Figures are records for each second of processor time:
//
//	flush           everything: decode, sort, encode, fsync, read back, manifest
//	encode          decode, sort, encode; nothing is stored or read back
//	generic         parquet-go's GenericWriter with the sink's decoder; nothing is sorted, stored or read back
//	generic-proto   the same with messages of protobuf-go
//
// and the first two divided by generic.
func BenchmarkCompare(b *testing.B) {
	raws := benchRequests(b)
	s := openStore(b, vfs.OS, b.TempDir(), func(o *parquetfile.Options) {
		o.RowGroupRows, o.DirectIO = parquetfile.DefaultRowGroupRows, true
	})
	encoder, err := parquetfile.NewEncoder(parquetfile.Zstd)
	require.NoError(b, err)
	shared, generated := newGenericWriter(), newGenericWriter()
	last := uint64(0)
	ways := []struct {
		name string
		run  func()
		used time.Duration
	}{
		{name: "flush", run: func() {
			gen := benchGeneration(raws, last+1)
			require.NoError(b, s.Flush(b.Context(), gen, last))
			last = gen.Last
		}},
		{name: "encode", run: func() { require.NoError(b, encoder.Encode(b.Context(), benchGeneration(raws, 1).Tables[0])) }},
		{name: "generic", run: func() { shared.write(b, raws, shared.shared(b)) }},
		{name: "generic-proto", run: func() { generated.write(b, raws, generated.generated(b)) }},
	}
	for i := range ways {
		ways[i].run() // buffers have their size then
	}
	for b.Loop() {
		for i := range ways {
			runtime.GC() // nobody pays for what another one has left
			before := cpuTime(b)
			ways[i].run()
			ways[i].used += cpuTime(b) - before
		}
	}
	records := float64(b.N) * benchBatches * benchBatch
	for _, w := range ways {
		b.ReportMetric(records/w.used.Seconds(), w.name+"/cpu-s")
	}
	b.ReportMetric(ways[2].used.Seconds()/ways[0].used.Seconds(), "flush:generic")
	b.ReportMetric(ways[2].used.Seconds()/ways[1].used.Seconds(), "encode:generic")
}

// BenchmarkFlushManyTables stores 10,000 small tables of 100 tenants: 100 files a generation.
func BenchmarkFlushManyTables(b *testing.B) {
	g := newGenerator(b, 1)
	raw := g.batch(spec{tenant: "t", endpoint: "e", records: manyRecords, start: noon}).Raw
	s := openStore(b, vfs.OS, b.TempDir(), func(o *parquetfile.Options) {
		o.SmallTableRows, o.DirectIO = parquetfile.DefaultSmallTableRows, true
	})
	last, cpu := uint64(0), cpuTime(b)
	for b.Loop() {
		gen := &memtable.Generation{First: last + 1}
		for i := range 10_000 {
			gen.Tables = append(gen.Tables, &memtable.Table{
				Tenant: fmt.Sprintf("tenant-%03d", i/100), Endpoint: fmt.Sprintf("endpoint-%03d", i%100), Records: manyRecords,
				Batches: []memtable.Batch{{Raw: raw, First: last + 1, Last: last + manyRecords}},
			})
			last += manyRecords
		}
		gen.Last = last
		require.NoError(b, s.Flush(b.Context(), gen, gen.First-1))
	}
	b.ReportMetric(float64(b.N)*10_000*manyRecords/(cpuTime(b)-cpu).Seconds(), "records/cpu-s")
}
