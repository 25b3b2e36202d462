package parquetfile

import (
	"context"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// Encoder gives benchmarks the way from batches to a file's bytes, without a disk and without reading back.
type Encoder struct {
	writer *writer
	sink   Sink
}

// NewEncoder returns an encoder of one thread.
func NewEncoder(compression Compression) (*Encoder, error) {
	encoder, err := newEncoder(compression, false)
	return &Encoder{writer: &writer{
		rowGroupRows: DefaultRowGroupRows, output: newOutput(), lanes: lanes{{encoder: encoder, verifier: &verifier{}}},
	}}, err
}

// Encode decodes, sorts and encodes a table and drops the result.
func (e *Encoder) Encode(ctx context.Context, table *memtable.Table) error {
	e.sink.rows.Reset()
	if err := e.sink.decode(table); err != nil {
		return err
	}
	e.sink.rows.SortByTime(0)
	n := e.sink.rows.Len()
	e.writer.output.reset(discardFile{}, false)
	_, err := e.writer.encode(ctx, &fileRows{
		tenant: table.Tenant, rows: &e.sink.rows, refs: e.sink.rows.Refs, endpoints: []endpointRun{{table.Endpoint, n}},
	}, false)
	return err
}

// Decoded returns the rows of the last call of Encode.
func (e *Encoder) Decoded() *batch.Rows { return &e.sink.rows }

type discardFile struct{ vfs.File }

func (discardFile) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (discardFile) Datasync() error                        { return nil }
