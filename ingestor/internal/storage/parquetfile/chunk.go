package parquetfile

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// chunk is one column of a row group. Its pages lie in the encoder's buffer, one behind the other; offsets count from that buffer's
// begin until the row group has its place in the file.
type chunk struct {
	column      int
	meta        format.ColumnMetaData
	columnIndex format.ColumnIndex // empty for columns without bounds
	offsetIndex format.OffsetIndex
	trial       trial
	rows        int64 // in the pages so far
}

// page is a data page to be written.
type page struct {
	encoding    format.Encoding
	rows, nulls int
	// levels are the encoded definition levels; none for a required column.
	levels []byte
	// values is what follows them, not compressed yet.
	values []byte
	// min and max bound the values that are not null. They are kept. nil where the column has no bounds.
	min, max []byte
}

func (c *chunk) begin(column int, codec format.CompressionCodec, offset int) {
	*c = chunk{column: column, meta: format.ColumnMetaData{
		Type: columnTypes[column], PathInSchema: columnNames[column : column+1], Codec: codec, DataPageOffset: int64(offset),
	}}
}

func (c *chunk) uses(encoding format.Encoding) {
	if !slices.Contains(c.meta.Encoding, encoding) {
		c.meta.Encoding = append(c.meta.Encoding, encoding)
	}
}

// addDictionary writes the dictionary page, which comes before all others.
func (e *encoder) addDictionary(c *chunk, values []byte, count int) error {
	stored, _ := values, false
	if e.compressor.codec != format.Uncompressed {
		stored = e.compressor.compress(values) // a dictionary page cannot say that it is not
	}
	header := format.PageHeader{
		Type: format.DictionaryPage, UncompressedPageSize: int32(len(values)), CompressedPageSize: int32(len(stored)),
		CRC:                  int32(crc32.ChecksumIEEE(stored)),
		DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: int32(count), Encoding: format.Plain}),
	}
	c.meta.DictionaryPageOffset = int64(len(e.out))
	c.uses(format.Plain)
	if err := e.append(c, &header, nil, stored); err != nil {
		return err
	}
	c.meta.DataPageOffset = int64(len(e.out))
	c.meta.EncodingStats = append(c.meta.EncodingStats, format.PageEncodingStats{
		PageType: format.DictionaryPage, Encoding: format.Plain, Count: 1,
	})
	return nil
}

// addPage writes a data page.
func (e *encoder) addPage(c *chunk, p *page) error {
	if len(p.levels)+len(p.values) > maxPageBytes {
		return errPageTooLarge
	}
	stored, compressed := c.trial.compress(e.compressor, p.values)
	header := format.PageHeader{
		Type:                 format.DataPageV2,
		UncompressedPageSize: int32(len(p.levels) + len(p.values)),
		CompressedPageSize:   int32(len(p.levels) + len(stored)),
		CRC:                  int32(crc32.Update(crc32.ChecksumIEEE(p.levels), crc32.IEEETable, stored)),
		DataPageHeaderV2: thrift.New(format.DataPageHeaderV2{
			NumValues: int32(p.rows), NumNulls: int32(p.nulls), NumRows: int32(p.rows), Encoding: p.encoding,
			DefinitionLevelsByteLength: int32(len(p.levels)), IsCompressed: thrift.New(compressed),
		}),
	}
	offset := len(e.out)
	if err := e.append(c, &header, p.levels, stored); err != nil {
		return err
	}
	c.uses(p.encoding)
	c.offsetIndex.PageLocations = append(c.offsetIndex.PageLocations, format.PageLocation{
		Offset: int64(offset), CompressedPageSize: int32(len(e.out) - offset), FirstRowIndex: c.rows,
	})
	c.countPage(p)
	return nil
}

// countPage adds a page to the chunk's statistics and indexes.
func (c *chunk) countPage(p *page) {
	c.rows += int64(p.rows)
	c.meta.NumValues += int64(p.rows)
	stats := &c.meta.Statistics
	stats.NullCount += int64(p.nulls)
	if n := len(c.meta.EncodingStats); n > 0 && c.meta.EncodingStats[n-1].PageType == format.DataPageV2 {
		c.meta.EncodingStats[n-1].Count++ // all data pages of a chunk have one encoding
	} else {
		c.meta.EncodingStats = append(c.meta.EncodingStats, format.PageEncodingStats{
			PageType: format.DataPageV2, Encoding: p.encoding, Count: 1,
		})
	}
	if p.min == nil {
		return
	}
	index := &c.columnIndex
	index.NullPages = append(index.NullPages, false)
	index.NullCounts = append(index.NullCounts, int64(p.nulls))
	index.MinValues = append(index.MinValues, p.min)
	index.MaxValues = append(index.MaxValues, p.max)
	if stats.MinValue == nil || c.compare(p.min, stats.MinValue) < 0 {
		stats.MinValue = p.min
	}
	if stats.MaxValue == nil || c.compare(p.max, stats.MaxValue) > 0 {
		stats.MaxValue = p.max
	}
}

// compare orders bounds: numbers as signed ones, everything else by its bytes.
func (c *chunk) compare(a, b []byte) int {
	if c.meta.Type == format.Int64 {
		return cmp.Compare(int64(binary.LittleEndian.Uint64(a)), int64(binary.LittleEndian.Uint64(b)))
	}
	return bytes.Compare(a, b)
}

// finish completes the indexes.
func (c *chunk) finish() {
	c.uses(format.RLE) // of the levels, also where there are none, as other writers have it
	ascending := true
	for i := 1; i < len(c.columnIndex.MinValues); i++ {
		ascending = ascending && c.compare(c.columnIndex.MinValues[i-1], c.columnIndex.MinValues[i]) <= 0 &&
			c.compare(c.columnIndex.MaxValues[i-1], c.columnIndex.MaxValues[i]) <= 0
	}
	if ascending {
		c.columnIndex.BoundaryOrder = format.Ascending
	}
}

// moveTo turns offsets within the row group into offsets within the file, where the row group begins at base.
func (c *chunk) moveTo(base int64) {
	c.meta.DataPageOffset += base
	if c.meta.EncodingStats[0].PageType == format.DictionaryPage {
		c.meta.DictionaryPageOffset += base
	}
	if c.meta.BloomFilterLength > 0 {
		c.meta.BloomFilterOffset += base
	}
	for i := range c.offsetIndex.PageLocations {
		c.offsetIndex.PageLocations[i].Offset += base
	}
}

// append writes a page: header, levels, values.
func (e *encoder) append(c *chunk, header *format.PageHeader, levels, stored []byte) error {
	before := len(e.out)
	if err := e.appendThrift(header); err != nil {
		return err
	}
	headerBytes := len(e.out) - before
	e.out = append(append(e.out, levels...), stored...)
	c.meta.TotalUncompressedSize += int64(headerBytes) + int64(header.UncompressedPageSize)
	c.meta.TotalCompressedSize += int64(len(e.out) - before)
	return nil
}
