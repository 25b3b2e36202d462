package wal

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// A frame is a header, the payload and zeros up to the next multiple of 64 bytes. All integers are little endian.
//
//	 0               4   5   6       8              12             16
//	+---------------+---+---+-------+---------------+---------------+
//	| magic "IWF1"  |ver|knd| flags | payload bytes | record count  |
//	+---------------+---+---+-------+---------------+---------------+
//	| segment id                    | segment epoch (random)        |
//	+-------------------------------+-------------------------------+
//	| first LSN                     | durable LSN                   |
//	+-------------------------------+---------------+---------------+
//	| group offset                  | chain         | CRC32C        |
//	+-------------------------------+---------------+---------------+
//	| payload, zeros                                                ...
//
// Group offset is where in the segment the frame's group begins. A group is written only after everything before it was
// synced, so a valid frame proves that all bytes before its group offset had been durable. Durable LSN is the same said in
// LSNs. Chain is the CRC32C of the frame before, or of the segment header. CRC32C covers the frame from its first byte to
// its last zero, except for the CRC itself.
//
// A header is aligned to its own size, hence lies in one sector and is never torn within itself. Groups begin at multiples
// of 4 KiB; zeros fill the space after the frame that carries flagLast.
const (
	frameMagic       = 0x31465749 // "IWF1"
	frameVersion     = 1
	frameHeaderBytes = 64
	frameChecksumAt  = 60
	frameAlign       = 64
)

// The kinds of frames.
const (
	// kindRecords holds an entry.
	kindRecords = 1
	// kindMarker holds nothing; it proves that what is before it was durable.
	kindMarker = 2
	// kindSeal is a marker that ends the segment: the log was closed in good order.
	kindSeal = 3
)

// flagLast marks the last frame of a group.
const flagLast = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameHeader is the decoded header of a frame.
type frameHeader struct {
	kind         uint8
	flags        uint16
	payloadBytes uint32
	records      uint32
	segment      uint64
	epoch        uint64
	first        LSN
	durable      LSN
	groupOffset  uint64
	chain        uint32
	checksum     uint32
}

// seal writes the header into frame[:64] and the checksum of the whole frame, whose payload and zeros are in place already,
// with it. It returns the checksum. len(frame) must be frameBytes(h.payloadBytes).
func (h *frameHeader) seal(frame []byte) uint32 {
	h.encode(frame)
	return h.sign(frame, frameChecksum(frame))
}

// sealEarly is seal where the CRC32C of payload and zeros is known already.
func (h *frameHeader) sealEarly(frame []byte, body uint32, a *appending) uint32 {
	h.encode(frame)
	header := crc32.Checksum(frame[:frameChecksumAt], castagnoli)
	return h.sign(frame, multiply(a.bytes(len(frame)-frameHeaderBytes), header)^body)
}

func (h *frameHeader) sign(frame []byte, checksum uint32) uint32 {
	h.checksum = checksum
	binary.LittleEndian.PutUint32(frame[frameChecksumAt:], checksum)
	return checksum
}

// encode writes the header but for its checksum.
func (h *frameHeader) encode(frame []byte) {
	le := binary.LittleEndian
	le.PutUint32(frame[0:], frameMagic)
	frame[4], frame[5] = frameVersion, h.kind
	le.PutUint16(frame[6:], h.flags)
	le.PutUint32(frame[8:], h.payloadBytes)
	le.PutUint32(frame[12:], h.records)
	le.PutUint64(frame[16:], h.segment)
	le.PutUint64(frame[24:], h.epoch)
	le.PutUint64(frame[32:], h.first)
	le.PutUint64(frame[40:], h.durable)
	le.PutUint64(frame[48:], h.groupOffset)
	le.PutUint32(frame[56:], h.chain)
}

// decode reads a header from b[:64]. It reports false where this is no frame header, or one whose lengths no frame can
// have. The checksum is not looked at.
func (h *frameHeader) decode(b []byte) bool {
	le := binary.LittleEndian
	if le.Uint32(b) != frameMagic || b[4] != frameVersion {
		return false
	}
	*h = frameHeader{
		kind:         b[5],
		flags:        le.Uint16(b[6:]),
		payloadBytes: le.Uint32(b[8:]),
		records:      le.Uint32(b[12:]),
		segment:      le.Uint64(b[16:]),
		epoch:        le.Uint64(b[24:]),
		first:        le.Uint64(b[32:]),
		durable:      le.Uint64(b[40:]),
		groupOffset:  le.Uint64(b[48:]),
		chain:        le.Uint32(b[56:]),
		checksum:     le.Uint32(b[60:]),
	}
	if h.flags&^flagLast != 0 || h.payloadBytes > maxGroupBytesLimit {
		return false
	}
	switch h.kind {
	case kindRecords:
		return h.records > 0 && h.first > 0 && h.first+LSN(h.records) > h.first
	case kindMarker, kindSeal:
		return h.records == 0 && h.payloadBytes == 0 && h.first > 0
	}
	return false
}

// last is the highest LSN at or before the frame.
func (h *frameHeader) last() LSN { return h.first + LSN(h.records) - 1 }

// frame returns what readers get to see of a frame at offset.
func (h *frameHeader) frame(payload []byte, offset int64) Frame {
	return Frame{First: h.first, Records: h.records, Payload: payload, Position: Position{h.segment, offset}}
}

// frameChecksum is the CRC32C of a frame, its checksum field left out.
func frameChecksum(frame []byte) uint32 {
	return crc32.Update(crc32.Checksum(frame[:frameChecksumAt], castagnoli), castagnoli, frame[frameHeaderBytes:])
}

// frameBytes is a frame's size, header and zeros included.
func frameBytes(payloadBytes int) int {
	return (frameHeaderBytes + payloadBytes + frameAlign - 1) &^ (frameAlign - 1)
}

// alignBlock rounds up to the next multiple of a block.
func alignBlock[T int | int64](n T) T { return (n + vfs.BlockBytes - 1) &^ (vfs.BlockBytes - 1) }
