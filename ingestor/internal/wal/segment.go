package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// A segment begins with a header that fills one block of 4 KiB. All integers are little endian.
//
//	   0                              8                              16
//	  +------------------------------+---------------+---------------+
//	0 | magic "INGWALSG"             | version       | reserved (0)  |
//	  +------------------------------+---------------+---------------+
//	16| WAL id                                                       |
//	  +------------------------------+-------------------------------+
//	32| segment id                   | epoch (random)                |
//	  +------------------------------+-------------------------------+
//	48| first LSN                    | predecessor's id              |
//	  +------------------------------+-------------------------------+
//	64| predecessor's last LSN       | predec's CRC  | reserved (0)  |
//	  +------------------------------+---------------+---------------+
//	80| size of the segment, bytes   | largest group, bytes          |
//	  +------------------------------+-------------------------------+
//	96| zeros                                         4092 | CRC32C  |
//
// The predecessor's CRC is that of its last frame, or of its header if it has none: together with the last LSN it says where
// the predecessor ends, whatever may follow there. Id, LSN and CRC are 0 in the first segment of a log. First LSN may be more
// than the predecessor's last LSN + 1: the LSNs between were never given out, or were lost and `wal repair` said so.
const (
	segmentMagic       = "INGWALSG"
	segmentVersion     = 1
	segmentHeaderBytes = vfs.BlockBytes
	segmentSuffix      = ".wal"
)

// segmentHeader is the decoded header of a segment.
type segmentHeader struct {
	wal           [16]byte
	id            uint64
	epoch         uint64
	first         LSN
	prev          tail
	sizeBytes     int64
	maxGroupBytes int64
	checksum      uint32
}

// tail names the end of a segment: the zero tail is that of no segment.
type tail struct {
	segment  uint64
	last     LSN
	checksum uint32
}

// encode writes the header, with its checksum, into b[:4096].
func (h *segmentHeader) encode(b []byte) {
	b = b[:segmentHeaderBytes]
	clear(b)
	le := binary.LittleEndian
	copy(b, segmentMagic)
	le.PutUint32(b[8:], segmentVersion)
	copy(b[16:32], h.wal[:])
	le.PutUint64(b[32:], h.id)
	le.PutUint64(b[40:], h.epoch)
	le.PutUint64(b[48:], h.first)
	le.PutUint64(b[56:], h.prev.segment)
	le.PutUint64(b[64:], h.prev.last)
	le.PutUint32(b[72:], h.prev.checksum)
	le.PutUint64(b[80:], uint64(h.sizeBytes))
	le.PutUint64(b[88:], uint64(h.maxGroupBytes))
	h.checksum = crc32.Checksum(b[:segmentHeaderBytes-4], castagnoli)
	le.PutUint32(b[segmentHeaderBytes-4:], h.checksum)
}

// decode reads a header from b[:4096] and checks it.
func (h *segmentHeader) decode(b []byte) error {
	if len(b) < segmentHeaderBytes {
		return errors.New("segment header is cut short")
	}
	le := binary.LittleEndian
	b = b[:segmentHeaderBytes]
	checksum := le.Uint32(b[segmentHeaderBytes-4:])
	switch {
	case string(b[:8]) != segmentMagic:
		return errors.New("segment header has no magic")
	case checksum != crc32.Checksum(b[:segmentHeaderBytes-4], castagnoli):
		return errors.New("segment header checksum mismatch")
	case le.Uint32(b[8:]) != segmentVersion:
		return fmt.Errorf("segment format version %d is not known", le.Uint32(b[8:]))
	}
	*h = segmentHeader{
		id:            le.Uint64(b[32:]),
		epoch:         le.Uint64(b[40:]),
		first:         le.Uint64(b[48:]),
		prev:          tail{segment: le.Uint64(b[56:]), last: le.Uint64(b[64:]), checksum: le.Uint32(b[72:])},
		sizeBytes:     int64(le.Uint64(b[80:])),
		maxGroupBytes: int64(le.Uint64(b[88:])),
		checksum:      checksum,
	}
	copy(h.wal[:], b[16:32])
	if h.maxGroupBytes <= 0 || h.maxGroupBytes > maxGroupBytesLimit || h.sizeBytes < minSegmentBytes(int(h.maxGroupBytes)) ||
		h.first <= h.prev.last {
		return errors.New("segment header has impossible values")
	}
	return nil
}

// segmentName is a segment's file name; names sort as ids do.
func segmentName(id uint64) string { return fmt.Sprintf("%016d%s", id, segmentSuffix) }

// parseSegmentName is the inverse of segmentName.
func parseSegmentName(name string) (id uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	return id, err == nil && id > 0 && segmentName(id) == name
}

// segment is what a WAL knows of one of its segments.
type segment struct {
	header segmentHeader
	path   string
	// sizeBytes is the file's size: the header's, or less where slack was cut.
	sizeBytes int64
	// endBytes is the offset after the last durable frame. It grows only in the newest segment.
	endBytes int64
	// last is the highest LSN up to the end; the predecessor's, or one below the first, where there are no frames.
	last LSN
	// checksum is that of the last frame, or of the header.
	checksum uint32
	frames   int64
	sealed   bool
	// readers counts the replays that may read the file. While there are any it is not dropped.
	readers int
}

func (s *segment) name() string { return filepath.Base(s.path) }

func (s *segment) tail() tail { return tail{segment: s.header.id, last: s.last, checksum: s.checksum} }

func (s *segment) corrupt(offset int64, reason string) *CorruptionError {
	return &CorruptionError{Segment: s.name(), OffsetBytes: offset, Reason: reason}
}
