package wal

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// group is the buffer in which frames wait for one write and one fdatasync. It has room for the largest group and is never
// grown; its address is aligned for direct I/O.
type group struct {
	buf     []byte
	size    int // bytes of frames
	frames  int
	records uint64
	last    LSN // the highest at or before the last frame
	after   appending
}

func newGroup(maxBytes int) *group { return &group{buf: vfs.AlignedBuffer(maxBytes)} }

// add appends a frame with only the fields that do not depend on where it will be written; stamp adds the others. A large payload is summed
// up here, where the group before is still being synced; until stamp the sum stands in the place of the frame's checksum.
func (g *group) add(kind uint8, first LSN, records uint32, parts [2][]byte) error {
	n := len(parts[0]) + len(parts[1])
	size := frameBytes(n)
	switch {
	case size > len(g.buf):
		return ErrTooLarge
	case g.size+size > len(g.buf):
		return ErrGroupFull
	}
	frame := g.buf[g.size : g.size+size]
	frame[5] = kind
	binary.LittleEndian.PutUint32(frame[8:], uint32(n))
	binary.LittleEndian.PutUint32(frame[12:], records)
	binary.LittleEndian.PutUint64(frame[32:], first)
	copied := copy(frame[frameHeaderBytes:], parts[0])
	copied += copy(frame[frameHeaderBytes+copied:], parts[1])
	clear(frame[frameHeaderBytes+copied:])
	if size >= earlyBytes {
		binary.LittleEndian.PutUint32(frame[frameChecksumAt:], crc32.Checksum(frame[frameHeaderBytes:], castagnoli))
	}
	g.size += size
	g.frames++
	g.records += uint64(records)
	g.last = first + LSN(records) - 1
	return nil
}

// paddedBytes is what the group takes on disk.
func (g *group) paddedBytes() int { return alignBlock(g.size) }

// stamp completes every frame for its place, offset in the segment h, behind the frame with the checksum chain, and zeros
// the padding. It returns the bytes to write and the checksum of the last frame.
func (g *group) stamp(h *segmentHeader, offset int64, chain uint32, durable LSN) ([]byte, uint32) {
	le := binary.LittleEndian
	for at, n := 0, 0; at < g.size; at += n {
		header := g.buf[at : at+frameHeaderBytes]
		payloadBytes := le.Uint32(header[8:])
		n = frameBytes(int(payloadBytes))
		f := frameHeader{
			kind:         header[5],
			payloadBytes: payloadBytes,
			records:      le.Uint32(header[12:]),
			segment:      h.id,
			epoch:        h.epoch,
			first:        le.Uint64(header[32:]),
			durable:      durable,
			groupOffset:  uint64(offset),
			chain:        chain,
		}
		if at+n == g.size {
			f.flags = flagLast
		}
		frame := g.buf[at : at+n]
		if n >= earlyBytes {
			chain = f.sealEarly(frame, le.Uint32(frame[frameChecksumAt:]), &g.after)
		} else {
			chain = f.seal(frame)
		}
	}
	padded := g.buf[:g.paddedBytes()]
	clear(padded[g.size:])
	return padded, chain
}

func (g *group) reset() { g.size, g.frames, g.records, g.last = 0, 0, 0, 0 }
