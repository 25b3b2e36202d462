package parquetfile_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

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
			last, cpu := uint64(0), cpuTime(b)
			for b.Loop() {
				gen := benchGeneration(raws, last+1)
				require.NoError(b, s.Flush(b.Context(), gen, last))
				last = gen.Last
			}
			reportRecords(b, cpu)
			var bytes, rows int64
			for _, f := range s.manifest.State().Files {
				bytes += f.Bytes
				rows += f.Rows
			}
			b.ReportMetric(float64(bytes)/float64(rows), "file-bytes/record")
		})
	}
}

// BenchmarkGenericWriter is the plain way, for comparison: generated messages, one struct a record, no file, no read-back.
func BenchmarkGenericWriter(b *testing.B) {
	type row struct {
		EventID     [16]byte `parquet:"event_id,uuid"`
		Timestamp   int64    `parquet:"timestamp,delta,timestamp(nanosecond)"`
		Version     int64    `parquet:"version,dict"`
		Payload     []byte   `parquet:"payload"`
		ContentType string   `parquet:"content_type,dict"`
		Attributes  string   `parquet:"attributes,optional,dict"`
		TenantID    string   `parquet:"tenant_id,dict"`
		EndpointID  string   `parquet:"endpoint_id,dict"`
		LSN         int64    `parquet:"lsn,delta"`
	}
	raws := benchRequests(b)
	writer := parquet.NewGenericWriter[row](io.Discard, parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}))
	b.ReportAllocs()
	cpu := cpuTime(b)
	for b.Loop() {
		writer.Reset(io.Discard)
		lsn := int64(1)
		rows := make([]row, benchBatch)
		for _, raw := range raws {
			var req storagepb.WriteBatchRequest
			require.NoError(b, proto.Unmarshal(raw, &req))
			for i, r := range req.Records {
				attributes, err := json.Marshal(r.Attributes)
				if err != nil {
					b.Fatal(err)
				}
				rows[i] = row{
					EventID: [16]byte(r.EventId), Timestamp: r.TimestampUnixNano, Version: int64(r.Version), Payload: r.Payload,
					ContentType: "application/json", Attributes: string(attributes), TenantID: "acme", EndpointID: "sensors", LSN: lsn,
				}
				lsn++
			}
			_, err := writer.Write(rows)
			require.NoError(b, err)
		}
		require.NoError(b, writer.Close())
	}
	reportRecords(b, cpu)
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
