package parquetfile

import (
	"hash/crc32"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

const (
	outputBufferBytes = 1 << 20
	// Without direct I/O this much is written at most before it is synced, so that the final sync, and the log's, find a
	// device with a short queue.
	maxDirtyBytes = 4 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// output writes one file from its beginning to its end, in large aligned pieces, and digests it. Its buffer is reused.
type output struct {
	file   vfs.File
	direct bool
	buffer []byte // aligned
	used   int
	// writtenBytes counts what has left the buffer, dirtyBytes what of it has not been synced.
	writtenBytes, dirtyBytes int64
	crc32c                   uint32
}

// offset returns the offset in the file of what is written next.
func (o *output) offset() int64 { return o.writtenBytes + int64(o.used) }

// writeExtent writes b and says where it lies.
func (o *output) writeExtent(b []byte) (extent, error) {
	x := extent{offset: o.offset(), length: int64(len(b)), crc32c: crc32.Checksum(b, castagnoli)}
	_, err := o.Write(b)
	return x, err
}

func newOutput() *output { return &output{buffer: vfs.AlignedBuffer(outputBufferBytes)} }

// reset begins a new file.
func (o *output) reset(file vfs.File, direct bool) {
	*o = output{file: file, direct: direct, buffer: o.buffer}
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		copied := copy(o.buffer[o.used:], p)
		o.used += copied
		p = p[copied:]
		if o.used == len(o.buffer) {
			if err := o.flush(len(o.buffer)); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

// flush writes the first length bytes of the buffer, of which o.used belong to the file.
func (o *output) flush(length int) error {
	if _, err := o.file.WriteAt(o.buffer[:length], o.writtenBytes); err != nil {
		return err
	}
	o.crc32c = crc32.Update(o.crc32c, castagnoli, o.buffer[:o.used])
	o.writtenBytes += int64(o.used)
	o.dirtyBytes += int64(o.used)
	o.used = 0
	if o.direct || o.dirtyBytes < maxDirtyBytes {
		return nil
	}
	o.dirtyBytes = 0
	return o.file.Datasync()
}

// finish writes the rest and makes the file durable. It returns the file's size and checksum.
func (o *output) finish() (sizeBytes int64, crc32c uint32, err error) {
	if o.used > 0 {
		length := o.used
		if o.direct {
			// Direct I/O writes whole blocks; the end is cut off again.
			length = (o.used + vfs.BlockBytes - 1) &^ (vfs.BlockBytes - 1)
			clear(o.buffer[o.used:length])
		}
		if err := o.flush(length); err != nil {
			return 0, 0, err
		}
		if o.direct {
			if err := o.file.Truncate(o.writtenBytes); err != nil {
				return 0, 0, err
			}
		}
	}
	return o.writtenBytes, o.crc32c, o.file.Sync()
}
