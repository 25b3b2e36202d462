package parquetfile

import (
	"context"

	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/format"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
)

var deltaNumbers delta.BinaryPackedEncoding

// encodeEventIDs writes ids plainly. Readers do not agree on any shorter encoding of values of a fixed length: neither arrow-go nor
// Polars reads them as differences.
func (e *encoder) encodeEventIDs(c *chunk, rows *fileRows) error {
	e.filter.reset(e.bloom, len(rows.refs))
	for begin := 0; begin < len(rows.refs); begin += pageIDRows {
		refs := rows.refs[begin:min(begin+pageIDRows, len(rows.refs))]
		e.values = e.values[:0]
		var bounds idBounds
		for i := range refs {
			id := rows.eventID(&refs[i])
			bounds.add(id)
			e.values = append(e.values, id...)
		}
		e.filter.add(e.values)
		if err := e.addPage(c, &page{
			encoding: format.Plain, rows: len(refs), values: e.values, min: bounds.least(), max: bounds.greatest(),
		}); err != nil {
			return err
		}
	}
	return nil
}

// encodeNumbers writes what value returns for each row, as differences.
func (e *encoder) encodeNumbers(c *chunk, rows *fileRows, value func(*batch.Ref) int64) error {
	for begin := 0; begin < len(rows.refs); begin += pageRows {
		refs := rows.refs[begin:min(begin+pageRows, len(rows.refs))]
		e.numbers = e.numbers[:0]
		for i := range refs {
			e.numbers = append(e.numbers, value(&refs[i]))
		}
		var err error
		if e.values, err = deltaNumbers.EncodeInt64(e.values, e.numbers); err != nil {
			return err
		}
		least, greatest := intBounds(e.numbers)
		if err := e.addPage(c, &page{
			encoding: format.DeltaBinaryPacked, rows: len(refs), values: e.values, min: intBytes(least), max: intBytes(greatest),
		}); err != nil {
			return err
		}
	}
	return nil
}

// encodePayloads writes all lengths of a page, then all bytes: quicker to write than values with a length before each, and
// compressing better.
func (e *encoder) encodePayloads(ctx context.Context, c *chunk, rows *fileRows) error {
	for refs := rows.refs; len(refs) > 0; {
		e.lengths = e.lengths[:0]
		size := 0
		for i := range refs {
			if size += int(refs[i].PayloadLen); size > pageBytes && i > 0 {
				break
			}
			e.lengths = append(e.lengths, int32(refs[i].PayloadLen))
		}
		if err := e.beginStrings(); err != nil {
			return err
		}
		n := len(e.lengths)
		for i := range refs[:n] {
			e.values = append(e.values, rows.payload(&refs[i])...)
		}
		if err := e.addPage(c, &page{encoding: format.DeltaLengthByteArray, rows: n, values: e.values}); err != nil {
			return err
		}
		if err := yield(ctx); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

// beginStrings starts a page with its values' lengths, which are in e.lengths.
func (e *encoder) beginStrings() (err error) {
	e.values, err = deltaNumbers.EncodeInt32(e.values, e.lengths)
	return err
}
