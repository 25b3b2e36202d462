package engine

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

// BenchmarkNullServer shows what client and transport can do: the server in the same process drops all bytes.
func BenchmarkNullServer(b *testing.B) {
	for _, client := range []Client{Prepared, Live} {
		for _, layout := range []Layout{Rows, Columns} {
			for _, streams := range []int{1, 4} {
				b.Run(fmt.Sprintf("client=%s/layout=%s/streams=%d", client, layout, streams), func(b *testing.B) {
					const batch = 1000
					c := Config{
						Target:  serveNull(b, batch),
						Tenants: []Tenant{{ID: "acme"}}, Endpoints: []string{"orders"},
						Connections: streams, InFlight: 4, BatchRecords: batch, Client: client, Layout: layout,
						Phases: []Phase{{Name: "all", Records: uint64(b.N) * batch}},
					}
					b.ReportAllocs()
					b.ResetTimer()
					result, err := Run(b.Context(), c)
					b.StopTimer()
					require.NoError(b, err)
					b.SetBytes(int64(result.Measured.WireBytes) / int64(b.N))
					b.ReportMetric(float64(result.Measured.Acked.Records)/b.Elapsed().Seconds(), "records/s")
				})
			}
		}
	}
}

// BenchmarkEncode is the cost of one batch of 1,000 records without a transport.
func BenchmarkEncode(b *testing.B) {
	spec := record.Spec{}.WithDefaults()
	for _, layout := range []Layout{Rows, Columns} {
		b.Run("prepared/"+string(layout), func(b *testing.B) {
			p := newPreparedEncoder(spec, layout)
			p.prepare(1000)
			e := envelope{endpoint: "orders", producerID: make([]byte, 16)}
			b.ReportAllocs()
			for i := range b.N {
				m, n := p.encode(&e, record.Batch{Sequence: uint64(i + 1), UnixMilli: 1, Records: 1000})
				b.SetBytes(int64(n))
				m.(*encoded).buffers.Free()
			}
		})
		b.Run("live/"+string(layout), func(b *testing.B) {
			l := newLiveEncoder(spec, layout)
			e := envelope{endpoint: "orders", producerID: make([]byte, 16)}
			b.ReportAllocs()
			for i := range b.N {
				m, n := l.encode(&e, record.Batch{Sequence: uint64(i + 1), UnixMilli: 1, Records: 1000})
				b.SetBytes(int64(n))
				m.(*encoded).buffers.Free()
			}
		})
	}
}
