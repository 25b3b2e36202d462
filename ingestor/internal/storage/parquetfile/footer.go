package parquetfile

import (
	"encoding/binary"

	"github.com/parquet-go/parquet-go/format"
)

const (
	magic     = "PAR1"
	createdBy = "ingestor version 2 (build hand-assembled)"
)

// footer gathers what stands behind the row groups: the page indexes and the file's metadata.
type footer struct {
	metadata format.FileMetaData
	groups   []*rowGroup
	sorting  []format.SortingColumn
}

func newFooter(mixed bool) *footer {
	f := &footer{sorting: sortingColumns(mixed)}
	f.metadata = format.FileMetaData{Version: 2, Schema: schemaElements, CreatedBy: createdBy}
	for range columnCount {
		f.metadata.ColumnOrders = append(f.metadata.ColumnOrders, format.ColumnOrder{Value: &format.TypeDefinedOrder{}})
	}
	return f
}

// add adds a row group whose bytes begin at offset base of the file.
func (f *footer) add(g *rowGroup, base int64) {
	g.moveTo(base)
	f.groups = append(f.groups, g)
	group := format.RowGroup{
		NumRows: int64(g.rows), SortingColumns: f.sorting, FileOffset: base, Ordinal: int16(len(f.metadata.RowGroups)),
	}
	for i := range g.chunks {
		meta := &g.chunks[i].meta
		group.TotalByteSize += meta.TotalUncompressedSize
		group.TotalCompressedSize += meta.TotalCompressedSize
		group.Columns = append(group.Columns, format.ColumnChunk{MetaData: *meta})
	}
	f.metadata.RowGroups = append(f.metadata.RowGroups, group)
	f.metadata.NumRows += int64(g.rows)
}

// encode appends everything that stands behind the row groups, which end at offset end of the file, to e.out, which it empties
// before.
func (f *footer) encode(e *encoder, end int64) error {
	e.out = e.out[:0]
	for i, g := range f.groups {
		for j := range g.chunks {
			index := &g.chunks[j].columnIndex
			if len(index.NullPages) == 0 {
				continue
			}
			column := &f.metadata.RowGroups[i].Columns[j]
			begin := len(e.out)
			if err := e.appendThrift(index); err != nil {
				return err
			}
			column.ColumnIndexOffset, column.ColumnIndexLength = end+int64(begin), int32(len(e.out)-begin)
		}
	}
	for i, g := range f.groups {
		for j := range g.chunks {
			column := &f.metadata.RowGroups[i].Columns[j]
			begin := len(e.out)
			if err := e.appendThrift(&g.chunks[j].offsetIndex); err != nil {
				return err
			}
			column.OffsetIndexOffset, column.OffsetIndexLength = end+int64(begin), int32(len(e.out)-begin)
		}
	}
	begin := len(e.out)
	if err := e.appendThrift(&f.metadata); err != nil {
		return err
	}
	e.out = binary.LittleEndian.AppendUint32(e.out, uint32(len(e.out)-begin))
	e.out = append(e.out, magic...)
	return nil
}
