package parquetfile

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/parquet-go/parquet-go"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// written is what a file must turn out to hold.
type written struct {
	sizeBytes int64
	crc32c    uint32
	rows      int64
	digest    fingerprint
}

// MismatchError says that a file, read back, is not what was written.
type MismatchError struct {
	Path   string
	Reason string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("parquetfile: read back %s: %s", e.Path, e.Reason)
}

// verifier reads files back. It belongs to one goroutine; its buffers are reused.
type verifier struct {
	buffer []byte
	values []parquet.Value
}

func newVerifier() *verifier {
	return &verifier{buffer: make([]byte, outputBufferBytes), values: make([]parquet.Value, chunkRows)}
}

// verify reads the file at path: its size, the checksum of its bytes, its footer and every value. A difference is a
// *MismatchError.
func (v *verifier) verify(fsys vfs.FS, path string, want written) (err error) {
	file, err := openRead(fsys, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.SizeBytes()
	if err != nil {
		return err
	}
	if size != want.sizeBytes {
		return &MismatchError{path, fmt.Sprintf("%d bytes instead of %d", size, want.sizeBytes)}
	}
	crc32c, err := v.checksum(file, size)
	if err != nil {
		return err
	}
	if crc32c != want.crc32c {
		return &MismatchError{path, fmt.Sprintf("checksum %08x instead of %08x", crc32c, want.crc32c)}
	}
	rows, digest, err := v.digest(file, size)
	switch {
	case err != nil:
		return &MismatchError{path, err.Error()}
	case rows != want.rows:
		return &MismatchError{path, fmt.Sprintf("%d rows instead of %d", rows, want.rows)}
	}
	for column := range columnCount {
		if digest[column] != want.digest[column] {
			return &MismatchError{path, fmt.Sprintf("column %v holds other values", schema.Columns()[column])}
		}
	}
	return nil
}

func (v *verifier) checksum(file vfs.File, size int64) (crc uint32, err error) {
	for offset := int64(0); offset < size; {
		n, err := file.ReadAt(v.buffer[:min(int64(len(v.buffer)), size-offset)], offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if n == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		crc = crc32.Update(crc, castagnoli, v.buffer[:n])
		offset += int64(n)
	}
	return crc, nil
}

// digest decodes all columns.
func (v *verifier) digest(file vfs.File, size int64) (rows int64, digest fingerprint, err error) {
	decoded, err := parquet.OpenFile(file, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return 0, digest, err
	}
	for _, group := range decoded.RowGroups() {
		chunks := group.ColumnChunks()
		if len(chunks) != columnCount {
			return 0, digest, fmt.Errorf("%d columns", len(chunks))
		}
		for column, chunk := range chunks {
			if err := v.digestChunk(&digest, column, chunk); err != nil {
				return 0, digest, err
			}
		}
	}
	return decoded.NumRows(), digest, nil
}

func (v *verifier) digestChunk(digest *fingerprint, column int, chunk parquet.ColumnChunk) (err error) {
	pages := chunk.Pages()
	defer func() { err = errors.Join(err, pages.Close()) }()
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = v.digestPage(digest, column, page)
		parquet.Release(page)
		if err != nil {
			return err
		}
	}
}

func (v *verifier) digestPage(f *fingerprint, column int, page parquet.Page) error {
	data := page.Data()
	switch column {
	case columnTimestamp, columnLSN:
		for _, value := range data.Int64() {
			f.add(column, uint64(value))
		}
	case columnEventID:
		ids, width := data.FixedLenByteArray()
		for ; len(ids) >= width; ids = ids[width:] {
			f.add(column, digest(ids[:width]))
		}
	case columnPayload:
		payloads, offsets := data.ByteArray()
		for i := range len(offsets) - 1 {
			f.add(column, digest(payloads[offsets[i]:offsets[i+1]]))
		}
	default:
		return v.digestValues(f, column, page)
	}
	return nil
}

// digestValues reads a page value by value, for columns that may have a dictionary or nulls.
func (v *verifier) digestValues(f *fingerprint, column int, page parquet.Page) error {
	reader := page.Values()
	for {
		n, err := reader.ReadValues(v.values)
		for _, value := range v.values[:n] {
			switch {
			case value.IsNull():
				f.add(column, nullDigest)
			case column == columnVersion:
				f.add(column, uint64(value.Int64()))
			default:
				f.add(column, digest(value.ByteArray()))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
