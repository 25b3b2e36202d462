package parquetfile

import (
	"unsafe"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
)

// maxRowGroupBytes bounds the payloads and attributes of a row group of large records.
const maxRowGroupBytes = 64 << 20

// maxRowGroups is how many a file may have by number of rows; a footer numbers them with 16 bits.
const maxRowGroups = 1 << 14

// fileRows is what one file holds: records of one tenant, in the file's order.
type fileRows struct {
	tenant string
	// rows owns what refs locate.
	rows *batch.Rows
	refs []batch.Ref
	// endpoints lie one behind the other.
	endpoints []endpointRun
}

// endpointRun says that the records up to end, from where the run before ends, belong to one endpoint.
type endpointRun struct {
	endpoint string
	end      int
}

// rowGroupEnds returns where row groups end: each has rowGroupRows rows, or fewer where maxRowGroupBytes are reached.
func (f *fileRows) rowGroupEnds(rowGroupRows int, ends []int) []int {
	rowGroupRows = max(rowGroupRows, (len(f.refs)+maxRowGroups-1)/maxRowGroups)
	rows, bytes := 0, 0
	for i := range f.refs {
		rows++
		bytes += int(f.refs[i].PayloadLen + f.refs[i].AttrLen)
		if rows == rowGroupRows || bytes >= maxRowGroupBytes {
			ends = append(ends, i+1)
			rows, bytes = 0, 0
		}
	}
	if rows > 0 {
		ends = append(ends, len(f.refs))
	}
	return ends
}

// slice returns the rows from begin to end.
func (f *fileRows) slice(begin, end int) fileRows {
	part := fileRows{tenant: f.tenant, rows: f.rows, refs: f.refs[begin:end]}
	start := 0
	for _, run := range f.endpoints {
		if run.end > begin && start < end {
			part.endpoints = append(part.endpoints, endpointRun{run.endpoint, min(run.end, end) - begin})
		}
		start = run.end
	}
	return part
}

// oneContentType says that all batches, not only those of these rows, have one content type.
func (f *fileRows) oneContentType() bool {
	types := f.rows.ContentTypes
	for i := range types {
		if types[i] != types[0] {
			return false
		}
	}
	return true
}

func (f *fileRows) eventID(ref *batch.Ref) []byte {
	return f.rows.Raws[ref.Batch][ref.EventOff:][:eventIDBytes:eventIDBytes]
}

func (f *fileRows) payload(ref *batch.Ref) []byte {
	return f.rows.Raws[ref.Batch][ref.PayloadOff:][:ref.PayloadLen:ref.PayloadLen]
}

func (f *fileRows) attributes(ref *batch.Ref) []byte {
	return f.rows.Attrs[ref.AttrOff:][:ref.AttrLen:ref.AttrLen]
}

// bytesOf returns the bytes of a string without copying them. They must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// textOf returns bytes as a string without copying them. They must not be changed while it is used.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
