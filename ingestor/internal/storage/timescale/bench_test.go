package timescale

import (
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// benchGeneration returns a generation of uniform records of about 145 bytes.
func benchGeneration(b *testing.B, batches, records int) *memtable.Generation {
	s := newStory(b)
	g := &memtable.Generation{First: 1, Last: uint64(batches * records)}
	table := &memtable.Table{Tenant: "acme", Endpoint: "orders"}
	payload := []byte(`{"sensor":"4711","temperature":21.5,"humidity":40.25,"state":"ok","battery":97,"firmware":"1.22.3"}`)
	for i := range batches {
		request := &storagepb.WriteBatchRequest{EndpointId: "orders"}
		for range records {
			r := s.record()
			r.Payload, r.TimestampUnixNano = payload, s.now.UnixNano()
			r.Attributes = map[string]string{"host": "a"}
			request.Records = append(request.Records, r)
		}
		raw, err := proto.Marshal(request)
		require.NoError(b, err)
		first := uint64(i*records + 1)
		table.Batches = append(table.Batches, memtable.Batch{
			Raw: raw, First: first, Last: first + uint64(records) - 1,
			MinTimeUnixNano: s.now.UnixNano(), MaxTimeUnixNano: s.now.UnixNano(),
		})
	}
	g.Tables = []*memtable.Table{table}
	return g
}

// BenchmarkRecords compares, over the same 100,000 records and one server:
//
//	encode     the encoder alone, into nothing
//	bare       pgconn's COPY of bytes that were encoded before, in a transaction
//	sink       RecordSink.Flush: decoding, encoding, COPY, checkpoint, commit
func BenchmarkRecords(b *testing.B) {
	const batches, records = 100, 1000
	g := benchGeneration(b, batches, records)
	db := prepared(b)
	set := newRecordSet(recordBatches(b, g))
	stream := func() io.Reader {
		set.repository.stream.reset(&recordSource{set: set, end: batches * records})
		return &set.repository.stream
	}
	encoded, err := io.ReadAll(stream())
	require.NoError(b, err)
	perSecond := func(b *testing.B) {
		b.ReportMetric(float64(b.N*batches*records)/b.Elapsed().Seconds(), "rows/s")
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(encoded)))
		buf := make([]byte, 64<<10)
		for b.Loop() {
			r := stream()
			for err := error(nil); err == nil; {
				_, err = r.Read(buf)
			}
		}
		perSecond(b)
	})
	b.Run("bare", func(b *testing.B) {
		b.SetBytes(int64(len(encoded)))
		require.NoError(b, db.partitions.ensure(b.Context(), "records", g.Tables[0].Batches[0].MinTimeUnixNano,
			g.Tables[0].Batches[0].MaxTimeUnixNano))
		for b.Loop() {
			b.StopTimer()
			execute(b, db, "TRUNCATE ingestor.records")
			b.StartTimer()
			require.NoError(b, pgx.BeginFunc(b.Context(), db.pool, func(tx pgx.Tx) error {
				_, err := tx.Conn().PgConn().CopyFrom(b.Context(), newReader(encoded), copyRecords)
				return err
			}))
		}
		perSecond(b)
	})
	b.Run("sink", func(b *testing.B) {
		b.SetBytes(int64(len(encoded)))
		sink, _ := claimed(b, db)
		for b.Loop() {
			b.StopTimer()
			execute(b, db, "TRUNCATE ingestor.records; UPDATE ingestor.sink_checkpoints SET flushed_lsn = 0")
			b.StartTimer()
			require.NoError(b, sink.Flush(b.Context(), g, 0))
		}
		perSecond(b)
	})
}

// newReader hides the other methods of bytes.Reader, so that the copy goes the same way as the stream's.
func newReader(p []byte) io.Reader { return &plainReader{p} }

type plainReader struct{ rest []byte }

func (r *plainReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
