package parquetfile

import (
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
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

const eventIDBytes = 16

var columnNames = [columnCount]string{
	"event_id", "timestamp", "version", "payload", "content_type", "attributes", "tenant_id", "endpoint_id", "lsn",
}

// columnTypes are the physical types.
var columnTypes = [columnCount]format.Type{
	format.FixedLenByteArray, format.Int64, format.Int64, format.ByteArray, format.ByteArray, format.ByteArray,
	format.ByteArray, format.ByteArray, format.Int64,
}

// schemaRow declares the columns for parquet-go, by whose reader files are read back. No value of it is ever made.
type schemaRow struct {
	EventID     [16]byte `parquet:"event_id,uuid"`
	Timestamp   int64    `parquet:"timestamp,timestamp(nanosecond:utc)"`
	Version     int64    `parquet:"version"`
	Payload     []byte   `parquet:"payload"`
	ContentType string   `parquet:"content_type"`
	Attributes  string   `parquet:"attributes,optional,json"`
	TenantID    string   `parquet:"tenant_id"`
	EndpointID  string   `parquet:"endpoint_id"`
	LSN         int64    `parquet:"lsn"`
}

// readSchema is what a file that is read back must declare.
var readSchema = parquet.SchemaOf(schemaRow{})

// schemaElements declare the columns in the footer, behind the root that holds them.
var schemaElements = func() []format.SchemaElement {
	text := format.LogicalType{Value: &format.StringType{}}
	elements := []format.SchemaElement{{Name: "record", NumChildren: thrift.New[int32](columnCount)}}
	for column, name := range columnNames {
		e := format.SchemaElement{Name: name, Type: thrift.New(columnTypes[column]), RepetitionType: thrift.New(format.Required)}
		switch column {
		case columnEventID:
			e.TypeLength = thrift.New[int32](eventIDBytes)
			e.LogicalType.Value = &format.UUIDType{}
		case columnTimestamp:
			e.LogicalType.Value = &format.TimestampType{
				IsAdjustedToUTC: true, Unit: format.TimeUnit{Value: &format.NanoSeconds{}},
			}
		case columnContentType, columnTenantID, columnEndpointID:
			e.ConvertedType, e.LogicalType = thrift.New(deprecated.UTF8), text
		case columnAttributes:
			e.RepetitionType = thrift.New(format.Optional)
			e.ConvertedType, e.LogicalType.Value = thrift.New(deprecated.Json), &format.JsonType{}
		}
		elements = append(elements, e)
	}
	return elements
}()

// sortingColumns say how rows are sorted. Mixed files are sorted by endpoint first.
func sortingColumns(mixed bool) []format.SortingColumn {
	if mixed {
		return []format.SortingColumn{{ColumnIdx: columnEndpointID}, {ColumnIdx: columnTimestamp}}
	}
	return []format.SortingColumn{{ColumnIdx: columnTimestamp}}
}
