package parquetfile

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// extent is a part of a file, with the checksum that its bytes had in memory.
type extent struct {
	offset, length int64
	crc32c         uint32
}

// written is what a file must turn out to hold: head, row groups and tail lie one behind the other and cover it.
type written struct {
	sizeBytes int64
	crc32c    uint32 // of the whole file
	head      extent
	groups    []extent
	tail      extent
	// rows are the records, and ends where row groups end among them.
	rows *fileRows
	ends []int
}

// MismatchError says that a file, read back, is not what was written.
type MismatchError struct {
	Path   string
	Reason string
	// Err is the reader's error, where it had one.
	Err error
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("parquetfile: read back %s: %s", e.Path, e.Reason)
}

func (e *MismatchError) Unwrap() error { return e.Err }

// verifier reads parts of files back. It belongs to one goroutine; its buffers are reused.
type verifier struct {
	part   part
	buffer []byte // aligned; part lies in it
	// dictionary holds the entries of the dictionary of the column chunk under way.
	dictionary [][]byte
}

// part is an extent of a file, read into memory, at its place in the file.
type part struct {
	offset int64
	bytes  []byte
}

// ReadAt implements io.ReaderAt for the file's offsets. What lies outside the part is not there.
func (p *part) ReadAt(b []byte, offset int64) (int, error) {
	at := offset - p.offset
	if at < 0 || at > int64(len(p.bytes)) {
		return 0, fmt.Errorf("offset %d is outside of what was written together", offset)
	}
	n := copy(b, p.bytes[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// read reads an extent of the file and compares its checksum.
func (v *verifier) read(file vfs.File, x extent) error {
	// Whole blocks, as direct I/O needs them.
	const mask = vfs.BlockBytes - 1
	begin, end := x.offset&^mask, (x.offset+x.length+mask)&^mask
	if int64(len(v.buffer)) < end-begin {
		v.buffer = vfs.AlignedBuffer(int(end - begin))
	}
	needed := int(x.offset + x.length - begin)
	for done := 0; done < needed; {
		piece := v.buffer[done:min(int(end-begin), done+readPieceBytes)]
		n, err := file.ReadAt(piece, begin+int64(done))
		if done += n; done < needed && n < len(piece) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	v.part = part{x.offset, v.buffer[x.offset-begin : needed]}
	if crc32c := crc32.Checksum(v.part.bytes, castagnoli); crc32c != x.crc32c {
		return fmt.Errorf("checksum %08x instead of %08x from offset %d", crc32c, x.crc32c, x.offset)
	}
	return nil
}

// letGo drops what is still held of a file, and buffers that have become large.
func (v *verifier) letGo() {
	clear(v.dictionary[:cap(v.dictionary)])
	v.part = part{}
	if len(v.buffer) > keepBufferBytes {
		v.buffer = nil
	}
}

// readPieceBytes bounds one read: the log shares the disk.
const readPieceBytes = 512 << 10

// verify reads the file at path, past the page cache where direct says so, with another library than wrote it, and compares everything with what was to be written: size, the
// checksum of every byte, schema, and every value of every column with the record that it came from; of event ids,
// timestamps and positions also the bounds by which readers skip. A difference is a *MismatchError.
func verify(lanes lanes, fsys vfs.FS, path string, direct bool, want *written) (err error) {
	flags := os.O_RDONLY
	if direct {
		flags |= vfs.Direct
	}
	file, err := fsys.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.SizeBytes()
	if err != nil {
		return err
	}
	if size != want.sizeBytes {
		return &MismatchError{Path: path, Reason: fmt.Sprintf("%d bytes instead of %d", size, want.sizeBytes)}
	}
	decoded, err := openTail(lanes[0].verifier, file, want)
	if err == nil {
		err = lanes.each(len(want.groups), func(lane *lane, i int) error {
			if err := lane.verifier.read(file, want.groups[i]); err != nil {
				return err
			}
			begin := 0
			if i > 0 {
				begin = want.ends[i-1]
			}
			rows := want.rows.slice(begin, want.ends[i])
			return lane.verifier.verifyGroup(decoded.RowGroups()[i], &rows)
		})
	}
	if err != nil {
		return &MismatchError{path, err.Error(), err}
	}
	return nil
}

// openTail reads head and tail and decodes the footer.
func openTail(v *verifier, file vfs.File, want *written) (*parquet.File, error) {
	var reader headAndTail
	if err := v.read(file, want.head); err != nil {
		return nil, err
	}
	reader.head = part{bytes: bytes.Clone(v.part.bytes)}
	if err := v.read(file, want.tail); err != nil {
		return nil, err
	}
	reader.tail = v.part
	decoded, err := parquet.OpenFile(&reader, want.sizeBytes, parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, err
	}
	if rows := decoded.NumRows(); rows != int64(len(want.rows.refs)) {
		return nil, fmt.Errorf("%d rows instead of %d", rows, len(want.rows.refs))
	}
	if !parquet.EqualNodes(decoded.Schema(), readSchema) {
		return nil, fmt.Errorf("the schema is %v", decoded.Schema())
	}
	if groups := len(decoded.RowGroups()); groups != len(want.groups) {
		return nil, fmt.Errorf("%d row groups instead of %d", groups, len(want.groups))
	}
	return decoded, nil
}

// headAndTail gives the reader of the footer the parts of the file that it needs.
type headAndTail struct{ head, tail part }

// ReadAt implements io.ReaderAt.
func (r *headAndTail) ReadAt(b []byte, offset int64) (int, error) {
	if offset < int64(len(r.head.bytes)) {
		return r.head.ReadAt(b, offset)
	}
	return r.tail.ReadAt(b, offset)
}
