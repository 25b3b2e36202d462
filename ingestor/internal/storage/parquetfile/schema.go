package parquetfile

import (
	"fmt"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/compress/uncompressed"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// The columns of every file, in this order.
const (
	columnEventID = iota
	columnTimestamp
	columnVersion
	columnPayload
	columnContentType
	columnAttributes
	columnTenantID
	columnEndpointID
	columnLSN
	columnCount
)

// schemaRow declares the columns. No value of it is ever made: rows are written column by column.
type schemaRow struct {
	EventID     [16]byte `parquet:"event_id,uuid"`
	Timestamp   int64    `parquet:"timestamp,delta,timestamp(nanosecond:utc)"`
	Version     int64    `parquet:"version,dict"`
	Payload     []byte   `parquet:"payload"`
	ContentType string   `parquet:"content_type,dict"`
	Attributes  string   `parquet:"attributes,optional,json,dict"`
	TenantID    string   `parquet:"tenant_id,dict"`
	EndpointID  string   `parquet:"endpoint_id,dict"`
	LSN         int64    `parquet:"lsn,delta"`
}

var schema = parquet.SchemaOf(schemaRow{})

const (
	// pageBytes is small enough that compressing one page does not hold a processor for long.
	pageBytes = 128 << 10
	// A dictionary that has outgrown this is given up for plain values.
	dictionaryMaxBytes = 1 << 20
)

// Compression names the codec of a file's pages.
type Compression string

// The codecs.
const (
	Zstd   Compression = "zstd" // at its fastest level
	Snappy Compression = "snappy"
	None   Compression = "none"
)

func (c Compression) codec() (compress.Codec, error) {
	switch c {
	case Zstd:
		return &zstd.Codec{Level: zstd.SpeedFastest}, nil
	case Snappy:
		return &snappy.Codec{}, nil
	case None:
		return &uncompressed.Codec{}, nil
	}
	return nil, fmt.Errorf("parquet.compression: %q is not one of zstd, snappy, none", string(c))
}

// writerOptions are those of every file. Mixed files are sorted by endpoint first.
func writerOptions(codec compress.Codec, mixed bool) []parquet.WriterOption {
	sorting := []parquet.SortingColumn{parquet.Ascending("timestamp")}
	if mixed {
		sorting = append([]parquet.SortingColumn{parquet.Ascending("endpoint_id")}, sorting...)
	}
	return []parquet.WriterOption{
		schema,
		parquet.Compression(codec),
		parquet.CreatedBy("ingestor", "1", ""),
		parquet.PageBufferSize(pageBytes),
		parquet.DataPageStatistics(true),
		parquet.DictionaryMaxBytes(dictionaryMaxBytes),
		// Lengths and bytes apart from each other: quicker to write than length-prefixed values, and compressing better.
		parquet.DefaultEncodingFor(parquet.ByteArray, &parquet.DeltaLengthByteArray),
		parquet.SkipPageBounds("payload"),
		parquet.SortingWriterConfig(parquet.SortingColumns(sorting...)),
	}
}
