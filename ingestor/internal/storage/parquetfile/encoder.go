package parquetfile

import (
	"context"
	"io"
	"runtime"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
)

const (
	// Values are handed to the column writers in chunks of at most chunkRows rows, fewer where they are large.
	chunkRows  = 1024
	chunkBytes = 256 << 10
	// maxRowGroupBytes bounds a row group of large records; their compressed pages stay in memory until it is written.
	maxRowGroupBytes = 64 << 20
)

// part is the rows of one endpoint in a file. Rows are sorted by time.
type part struct {
	endpoint string
	rows     batch.Rows
}

// encoder turns rows into Parquet. It belongs to one goroutine and is reused from file to file.
type encoder struct {
	writer       *parquet.GenericWriter[schemaRow]
	columns      []*parquet.ColumnWriter
	rowGroupRows int
	values       [chunkRows]parquet.Value
	digest       fingerprint
	groupRows    int
	groupBytes   int
}

func newEncoder(codec compress.Codec, mixed bool, rowGroupRows int) *encoder {
	writer := parquet.NewGenericWriter[schemaRow](io.Discard, writerOptions(codec, mixed)...)
	return &encoder{writer: writer, columns: writer.ColumnWriters(), rowGroupRows: rowGroupRows}
}

// encode writes one file of parts, which are sorted by endpoint, to output and returns the fingerprint of its rows. The
// encoder can be used again whatever the outcome.
func (e *encoder) encode(ctx context.Context, output io.Writer, tenant string, parts []part) (fingerprint, error) {
	e.writer.Reset(output)
	e.digest, e.groupRows, e.groupBytes = fingerprint{}, 0, 0
	defer clear(e.values[:]) // they point into the batches
	for i := range parts {
		if err := e.encodePart(ctx, tenant, &parts[i]); err != nil {
			return fingerprint{}, err
		}
	}
	return e.digest, e.writer.Close()
}

func (e *encoder) encodePart(ctx context.Context, tenant string, p *part) error {
	for from := 0; from < p.rows.Len(); {
		to, bytes := e.chunkEnd(p, from)
		if err := e.writeChunk(tenant, p, from, to); err != nil {
			return err
		}
		e.groupRows += to - from
		e.groupBytes += bytes
		if e.groupRows >= e.rowGroupRows || e.groupBytes >= maxRowGroupBytes {
			if err := e.writer.Flush(); err != nil {
				return err
			}
			e.groupRows, e.groupBytes = 0, 0
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		// Flushing must not hold up the commit path, which may have become ready to run meanwhile.
		runtime.Gosched()
		from = to
	}
	return nil
}

// chunkEnd returns where the chunk that begins at from ends, and how many bytes of payload and attributes it has.
func (e *encoder) chunkEnd(p *part, from int) (to, bytes int) {
	limit := min(p.rows.Len(), from+chunkRows, from+e.rowGroupRows-e.groupRows)
	for to = from; to < limit && bytes < chunkBytes; to++ {
		ref := &p.rows.Refs[to]
		bytes += int(ref.PayloadLen + ref.AttrLen)
	}
	return to, bytes
}

// writeChunk writes the rows [from, to) to all columns.
func (e *encoder) writeChunk(tenant string, p *part, from, to int) error {
	refs := p.rows.Refs[from:to]
	values := e.values[:len(refs)]
	for column := range columnCount {
		switch column {
		case columnEventID:
			for i := range values {
				id := p.rows.EventID(from + i)
				e.digest.add(column, digest(id))
				values[i] = parquet.FixedLenByteArrayValue(id)
			}
		case columnTimestamp:
			for i := range values {
				e.digest.add(column, uint64(refs[i].TimeUnixNano))
				values[i] = parquet.Int64Value(refs[i].TimeUnixNano)
			}
		case columnVersion:
			for i := range values {
				e.digest.add(column, uint64(refs[i].Version))
				values[i] = parquet.Int64Value(int64(refs[i].Version))
			}
		case columnPayload:
			for i := range values {
				payload := p.rows.Payload(from + i)
				e.digest.add(column, digest(payload))
				values[i] = parquet.ByteArrayValue(payload)
			}
		case columnContentType:
			e.contentTypes(p, from, values)
		case columnAttributes:
			e.attributes(p, from, values)
		case columnTenantID:
			e.constant(column, tenant, values)
		case columnEndpointID:
			e.constant(column, p.endpoint, values)
		case columnLSN:
			for i := range values {
				e.digest.add(column, refs[i].LSN)
				values[i] = parquet.Int64Value(int64(refs[i].LSN))
			}
		}
		if _, err := e.columns[column].WriteRowValues(values); err != nil {
			return err
		}
	}
	return nil
}

// constant fills values with one text.
func (e *encoder) constant(column int, text string, values []parquet.Value) {
	b := textBytes(text)
	d, value := digest(b), parquet.ByteArrayValue(b)
	for i := range values {
		e.digest.add(column, d)
		values[i] = value
	}
}

// contentTypes fills values with the rows' content types, which are the same for all rows of a batch.
func (e *encoder) contentTypes(p *part, from int, values []parquet.Value) {
	known := false
	var batchIndex uint32
	var d uint64
	var value parquet.Value
	for i := range values {
		if ref := &p.rows.Refs[from+i]; !known || ref.Batch != batchIndex {
			b := textBytes(p.rows.ContentTypes[ref.Batch])
			known, batchIndex, d, value = true, ref.Batch, digest(b), parquet.ByteArrayValue(b)
		}
		e.digest.add(columnContentType, d)
		values[i] = value
	}
}

// attributes fills values with the rows' attributes; none is null.
func (e *encoder) attributes(p *part, from int, values []parquet.Value) {
	for i := range values {
		attributes := p.rows.Attributes(from + i)
		if len(attributes) == 0 {
			e.digest.add(columnAttributes, nullDigest)
			values[i] = parquet.NullValue().Level(0, 0, columnAttributes)
			continue
		}
		e.digest.add(columnAttributes, digest(attributes))
		values[i] = parquet.ByteArrayValue(attributes).Level(0, 1, columnAttributes)
	}
}

// textBytes returns the bytes of a string without copying them. They must not be changed.
func textBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
