package parquetfile

import (
	"context"
	"errors"
	"math"
	"runtime"

	"github.com/parquet-go/parquet-go/encoding/thrift"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
)

const (
	// pageBytes is what a page of payloads or attributes holds before compression; a single value may be larger. Zstd takes a fifth
	// longer for random text in pages of half the size; compressing a page does not hold a processor for much above 1 ms.
	pageBytes = 256 << 10
	// Pages of numbers, or of numbers of dictionary entries, hold at most so many.
	pageRows = 1 << 14
	// Pages of event ids hold at most so many: 64 KiB, one block of zstd's.
	pageIDRows = 64 << 10 / eventIDBytes
	// A dictionary that would outgrow this is given up.
	dictionaryMaxBytes = 1 << 20
	// The page header has 32 bits for sizes; some of them are left for the header's other parts.
	maxPageBytes = math.MaxInt32 - 1<<20
	// Larger buffers are let go after a flush.
	keepBufferBytes = 16 << 20
)

var errPageTooLarge = errors.New("a value is too large for a page")

// rowGroup describes an encoded row group. Its bytes are in the encoder's buffer.
type rowGroup struct {
	rows   int
	chunks [columnCount]chunk
}

// moveTo gives the row group its place in the file.
func (g *rowGroup) moveTo(base int64) {
	for i := range g.chunks {
		g.chunks[i].moveTo(base)
	}
}

// encoder turns row groups into Parquet, column by column, page by page. It belongs to one goroutine; its buffers are used again.
// They hold one encoded row group, one page and its compressed form, one dictionary, and 5 bytes for each row of a row group.
type encoder struct {
	compressor *compressor
	bloom      bool

	out     []byte // the row group
	thrift  thrift.Encoder
	values  []byte // of the page under way
	numbers []int64
	lengths []int32
	// Of the row group's rows in a column with a dictionary: the entries' numbers, without the nulls, and the definition levels.
	entries    []int32
	levels     []byte
	packed     []byte // encoded levels
	dictionary dictionary
	known      [knownSlots]knownAttributes
	filter     filter
}

func newEncoder(compression Compression, bloom bool) (*encoder, error) {
	compressor, err := newCompressor(compression)
	if err != nil {
		return nil, err
	}
	e := &encoder{compressor: compressor, bloom: bloom}
	var protocol thrift.CompactProtocol
	e.thrift.Reset(protocol.NewWriter((*outWriter)(e)))
	return e, nil
}

// outWriter appends what is written to the encoder's buffer.
type outWriter encoder

func (w *outWriter) Write(b []byte) (int, error) {
	w.out = append(w.out, b...)
	return len(b), nil
}

// appendThrift appends a structure of Parquet's to the buffer.
func (e *encoder) appendThrift(v any) error { return e.thrift.Encode(v) }

// encode encodes rows, which are one row group. The bytes are in e.out until the next call.
func (e *encoder) encode(ctx context.Context, rows *fileRows) (*rowGroup, error) {
	e.out = e.out[:0]
	g := &rowGroup{rows: len(rows.refs)}
	for column := range columnCount {
		c := &g.chunks[column]
		c.begin(column, e.compressor.codec, len(e.out))
		if err := e.encodeColumn(ctx, c, rows); err != nil {
			return nil, err
		}
		c.finish()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return g, e.addFilter(&g.chunks[columnEventID])
}

func (e *encoder) encodeColumn(ctx context.Context, c *chunk, rows *fileRows) error {
	switch c.column {
	case columnEventID:
		return e.encodeEventIDs(c, rows)
	case columnTimestamp:
		return e.encodeNumbers(c, rows, func(ref *batch.Ref) int64 { return ref.TimeUnixNano })
	case columnLSN:
		return e.encodeNumbers(c, rows, func(ref *batch.Ref) int64 { return int64(ref.LSN) })
	case columnVersion:
		return e.encodeVersions(c, rows)
	case columnPayload:
		return e.encodePayloads(ctx, c, rows)
	case columnContentType:
		return e.encodeContentTypes(c, rows)
	case columnAttributes:
		return e.encodeAttributes(ctx, c, rows)
	case columnTenantID:
		return e.encodeConstant(c, bytesOf(rows.tenant), len(rows.refs))
	default:
		return e.encodeEndpoints(c, rows)
	}
}

// yield lets others run. Flushing must not hold up the commit path, which may have become ready meanwhile.
func yield(ctx context.Context) error {
	runtime.Gosched()
	return ctx.Err()
}

// letGo drops references to records, and buffers that have become large.
func (e *encoder) letGo() {
	if cap(e.out) > keepBufferBytes {
		e.out = nil
	}
	if cap(e.values) > keepBufferBytes {
		e.values = nil
	}
	if cap(e.compressor.packed) > keepBufferBytes {
		e.compressor.packed = nil
	}
}
