package batch

import "encoding/binary"

// Wire types of protobuf.
const (
	wireVarint     = 0
	wireFixed64    = 1
	wireBytes      = 2
	wireStartGroup = 3
	wireEndGroup   = 4
	wireFixed32    = 5
)

const (
	maxFieldNumber = 1<<29 - 1
	// maxGroupFieldNumber is what protobuf-go takes inside groups that it skips.
	maxGroupFieldNumber = 1<<31 - 1
	// maxGroupDepth is protobuf-go's bound on nested groups.
	maxGroupDepth = 10000
)

// malformed is the position that the functions below return for bytes that are not valid wire format.
const malformed = -1

// span is a part of a batch's bytes: [start, end).
type span struct{ start, end uint32 }

func (s span) len() int             { return int(s.end - s.start) }
func (s span) of(raw []byte) []byte { return raw[s.start:s.end] }
func newSpan(start, end int) span   { return span{uint32(start), uint32(end)} }
func (s span) at(i, width int) span {
	return span{s.start + uint32(i*width), s.start + uint32((i+1)*width)}
}
func (s span) count(width int) int { return s.len() / width }

// varint reads a varint at b[i:] and returns it and the position behind it.
func varint(b []byte, i int) (uint64, int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return longVarint(b, i)
}

func longVarint(b []byte, i int) (uint64, int) {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if i >= len(b) {
			return 0, malformed
		}
		c := b[i]
		i++
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, malformed // more than 64 bits
			}
			return v | uint64(c)<<shift, i
		}
		v |= uint64(c&0x7f) << shift
	}
	return 0, malformed
}

// lengthPrefixed reads a length at b[i:] and returns the bounds of what follows; end is malformed where it does not fit.
func lengthPrefixed(b []byte, i int) (start, end int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		start = i + 1
		end = start + int(b[i])
		if end <= len(b) {
			return start, end
		}
		return 0, malformed
	}
	return longLengthPrefixed(b, i)
}

func longLengthPrefixed(b []byte, i int) (start, end int) {
	n, start := longVarint(b, i)
	if start == malformed || n > uint64(len(b)-start) {
		return 0, malformed
	}
	return start, start + int(n)
}

// field is one field of a message: its tag (field number and wire type) and its value.
type field struct {
	tag uint64
	// number holds the value of wire types varint, fixed32 and fixed64.
	number uint64
	// start and end bound the value of wire type bytes within the message's buffer, and of fixed32 and fixed64.
	start, end int
}

// nextField reads the field at b[i:], skipping over groups, and returns the position behind it.
func nextField(b []byte, i int) (f field, next int) {
	f.tag, i = varint(b, i)
	if i == malformed || !validTag(f.tag, maxFieldNumber) {
		return f, malformed
	}
	switch f.tag & 7 {
	case wireVarint:
		f.number, i = varint(b, i)
		return f, i
	case wireBytes:
		f.start, f.end = lengthPrefixed(b, i)
		return f, f.end
	case wireFixed64:
		if len(b)-i < 8 {
			return f, malformed
		}
		f.number, f.start, f.end = binary.LittleEndian.Uint64(b[i:]), i, i+8
		return f, f.end
	case wireFixed32:
		if len(b)-i < 4 {
			return f, malformed
		}
		f.number, f.start, f.end = uint64(binary.LittleEndian.Uint32(b[i:])), i, i+4
		return f, f.end
	default:
		return f, skipValue(b, i, f.tag, maxGroupDepth)
	}
}

func validTag(tag uint64, maxNumber uint64) bool {
	number := tag >> 3
	return number >= 1 && number <= maxNumber
}

// skipValue returns the position behind the value that belongs to tag and begins at b[i:].
func skipValue(b []byte, i int, tag uint64, depth int) int {
	switch tag & 7 {
	case wireVarint:
		_, i = varint(b, i)
		return i
	case wireBytes:
		_, end := lengthPrefixed(b, i)
		return end
	case wireFixed64:
		return skipFixed(b, i, 8)
	case wireFixed32:
		return skipFixed(b, i, 4)
	case wireStartGroup:
		return skipGroup(b, i, tag>>3, depth)
	default: // an end without a beginning, or a reserved type
		return malformed
	}
}

func skipFixed(b []byte, i, width int) int {
	if len(b)-i < width {
		return malformed
	}
	return i + width
}

// skipGroup returns the position behind the end of the group with the given field number whose content begins at b[i:].
func skipGroup(b []byte, i int, number uint64, depth int) int {
	if depth < 0 {
		return malformed
	}
	for {
		var tag uint64
		tag, i = varint(b, i)
		if i == malformed || !validTag(tag, maxGroupFieldNumber) {
			return malformed
		}
		if tag&7 == wireEndGroup {
			if tag>>3 != number {
				return malformed
			}
			return i
		}
		if i = skipValue(b, i, tag, depth-1); i == malformed {
			return malformed
		}
	}
}
