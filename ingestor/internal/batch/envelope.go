package batch

import (
	"encoding/binary"
	"errors"
	"math"
)

// ErrEnvelope says that bytes do not begin with an envelope of a known version.
var ErrEnvelope = errors.New("batch: invalid envelope")

// The envelope stands before a request's bytes in the log. Integers are little-endian.
//
//	+---------+---------------+--------+-------------------+----------------------+
//	| version | tenant length | tenant | received, unix ns | request as received  |
//	| 1 byte  | 2 bytes       | n      | 8 bytes           | the rest             |
//	+---------+---------------+--------+-------------------+----------------------+
const (
	envelopeVersion    = 1
	envelopeFixedBytes = 1 + 2 + 8
)

// MaxTenantBytes bounds a tenant's name.
const MaxTenantBytes = math.MaxUint16

// EnvelopeBytes returns the size of the envelope for a tenant.
func EnvelopeBytes(tenant string) int { return envelopeFixedBytes + len(tenant) }

// AppendEnvelope appends an envelope to dst and returns the result. The request's bytes are to follow it.
// REQUIRES: len(tenant) <= MaxTenantBytes.
func AppendEnvelope(dst []byte, tenant string, receivedUnixNano int64) []byte {
	if len(tenant) > MaxTenantBytes {
		panic("batch: the tenant's name does not fit an envelope")
	}
	dst = append(dst, envelopeVersion)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(tenant)))
	dst = append(dst, tenant...)
	return binary.LittleEndian.AppendUint64(dst, uint64(receivedUnixNano))
}

// ParseEnvelope splits what AppendEnvelope and the request's bytes make. The slices alias payload.
func ParseEnvelope(payload []byte) (tenant []byte, receivedUnixNano int64, raw []byte, err error) {
	if len(payload) < envelopeFixedBytes || payload[0] != envelopeVersion {
		return nil, 0, nil, ErrEnvelope
	}
	n := int(binary.LittleEndian.Uint16(payload[1:]))
	rest := payload[3:]
	if len(rest) < n+8 {
		return nil, 0, nil, ErrEnvelope
	}
	return rest[:n:n], int64(binary.LittleEndian.Uint64(rest[n:])), rest[n+8:], nil
}
