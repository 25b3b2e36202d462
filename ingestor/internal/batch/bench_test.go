package batch

import (
	"math"
	"testing"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

const benchRecords = 1000

var benchLimits = Limits{MaxRecords: 100_000, MaxRecordBytes: 1 << 20, MaxTimeUnixNano: math.MaxInt64}

func BenchmarkValidate(b *testing.B) {
	labelled := rowsRequest(benchRecords)
	for _, r := range labelled.GetRecords() {
		r.Attributes = map[string]string{"host": "web-17", "region": "eu-west-1"}
	}
	columns := columnsRequest(benchRecords)
	labelledColumns := columnsRequest(benchRecords)
	host := &storagepb.AttributeColumn{Key: "host"}
	for range benchRecords {
		host.Values = append(host.Values, "web-17"...)
		host.ValueLengths = append(host.ValueLengths, 6)
	}
	labelledColumns.Columns.Attributes = []*storagepb.AttributeColumn{host}
	for _, bench := range []struct {
		name    string
		request *storagepb.WriteBatchRequest
	}{
		{"rows", rowsRequest(benchRecords)}, {"rows-2-attributes", labelled},
		{"columns", columns}, {"columns-1-attribute", labelledColumns},
		{"one-row", rowsRequest(1)},
	} {
		raw := marshal(b, bench.request)
		n := max(len(bench.request.GetRecords()), len(bench.request.GetColumns().GetVersions()))
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			var h Header
			for b.Loop() {
				if refused := Validate(raw, testTenant, benchLimits, &h); refused != nil {
					b.Fatal(refused)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
		})
		b.Run("header/"+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			var h Header
			for b.Loop() {
				if refused := ReadHeader(raw, &h); refused != nil {
					b.Fatal(refused)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
		})
		b.Run("decode/"+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			var rows Rows
			for b.Loop() {
				rows.Reset()
				if err := rows.AppendBatch(raw, 1); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
		})
	}
}
