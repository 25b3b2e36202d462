package record

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Limits of the identity fields, given by the 74 free bits of a version 7 UUID.
const (
	MaxProducers = 1 << 14
	MaxSequence  = 1<<40 - 1
	MaxRecords   = 1 << 20 // in a batch
)

// ID is an event id in its 16 bytes.
type ID [16]byte

// Identity is what an event id says.
type Identity struct {
	UnixMilli int64  // when the batch was made
	Producer  uint16 // below MaxProducers
	Sequence  uint64 // of the batch, from 1 to MaxSequence
	Index     uint32 // in the batch, below MaxRecords
}

// Words returns the two big-endian halves of the event id with index 0. The index is added to the low half.
func (i Identity) Words() (high, low uint64) {
	high = uint64(i.UnixMilli)<<16 | 0x7000 | uint64(i.Producer>>2)
	low = 1<<63 | uint64(i.Producer&3)<<60 | i.Sequence<<20
	return high, low
}

// ID returns the event id.
func (i Identity) ID() ID {
	var id ID
	i.Put(id[:])
	return id
}

// Put writes the event id to the first 16 bytes of dst.
func (i Identity) Put(dst []byte) {
	high, low := i.Words()
	binary.BigEndian.PutUint64(dst[:8], high)
	binary.BigEndian.PutUint64(dst[8:16], low|uint64(i.Index))
}

// Parse reads the identity out of an event id. It reports false where id cannot have been made by this package: it is not
// a version 7 UUID.
func Parse(id ID) (Identity, bool) {
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	if high>>12&0xf != 7 || low>>62 != 2 {
		return Identity{}, false
	}
	return Identity{
		UnixMilli: int64(high >> 16),
		Producer:  uint16(high&0xfff)<<2 | uint16(low>>60&3),
		Sequence:  low >> 20 & MaxSequence,
		Index:     uint32(low & (MaxRecords - 1)),
	}, true
}

// TimestampUnixNano is the record's timestamp: the batch's millisecond, and one nanosecond for each index.
func (i Identity) TimestampUnixNano() int64 {
	return i.UnixMilli*1e6 + int64(i.Index%1e6)
}

// String returns the event id in the usual form of UUIDs.
func (id ID) String() string {
	h := hex.EncodeToString(id[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// ProducerID derives the 16-byte producer id of one producer of a run.
func ProducerID(run [16]byte, producer uint16) [16]byte {
	a := mix(binary.BigEndian.Uint64(run[:8]) ^ mix(uint64(producer)))
	b := mix(binary.BigEndian.Uint64(run[8:]) ^ a)
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], a)
	binary.BigEndian.PutUint64(id[8:], b)
	return id
}
