package record

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

const (
	payloadHead = `{"id":"`
	payloadText = `","text":"`
	payloadTail = `"}`

	// IdentityOffset is where the 19 hexadecimal digits of the identity start in a payload:
	// producer (4), sequence (10), index (5).
	IdentityOffset = len(payloadHead)
	// BatchDigits is the number of those digits that are the same for a whole batch: producer and sequence.
	BatchDigits    = 14
	identityDigits = BatchDigits + 5

	// MinPayloadBytes is the smallest payload that holds an identity.
	MinPayloadBytes = len(payloadHead) + identityDigits + len(payloadText) + len(payloadTail)
	// MaxAttributes bounds Spec.Attributes.
	MaxAttributes = 10

	hexDigits = "0123456789abcdef"
	// phrase fills the compressible part of a payload.
	phrase = "the quick brown fox jumps over the lazy dog and sleeps until the sensor wakes it again; "
)

// Spec states what synthetic records look like. The zero value of a field means its default.
type Spec struct {
	Seed uint64 `json:"seed" yaml:"seed"`
	// PayloadBytes is the mean size of a payload. With the default of 110 a record in rows takes 144 bytes on the wire.
	PayloadBytes int `json:"payload_bytes" yaml:"payload_bytes"`
	// PayloadSpreadBytes lets sizes vary evenly in PayloadBytes ± PayloadSpreadBytes.
	PayloadSpreadBytes int `json:"payload_spread_bytes" yaml:"payload_spread_bytes"`
	// Compressibility is the share of a payload's text, 0 to 1, that repeats a phrase; the rest is random (5 bits a byte).
	Compressibility float64 `json:"compressibility" yaml:"compressibility"`
	// Attributes is the number of attributes of each record, at most MaxAttributes.
	Attributes int `json:"attributes" yaml:"attributes"`
	// Variants is the number of different batches before texts repeat (their identities never do). Default: 32.
	Variants int `json:"variants" yaml:"variants"`
	// MediaType of the payloads. Empty means application/json, which the payloads are.
	MediaType string `json:"media_type,omitempty" yaml:"media_type"`
}

// WithDefaults returns the spec with defaults in place of zero values.
func (s Spec) WithDefaults() Spec {
	if s.PayloadBytes == 0 {
		s.PayloadBytes = 110
	}
	if s.Variants == 0 {
		s.Variants = 32
	}
	return s
}

// Validate says what is wrong with a spec whose defaults are set.
func (s Spec) Validate() error {
	switch {
	case s.PayloadSpreadBytes < 0 || s.PayloadBytes-s.PayloadSpreadBytes < MinPayloadBytes:
		return fmt.Errorf("record: payload_bytes - payload_spread_bytes must be at least %d", MinPayloadBytes)
	case !(s.Compressibility >= 0 && s.Compressibility <= 1):
		return fmt.Errorf("record: compressibility %v is not between 0 and 1", s.Compressibility)
	case s.Attributes < 0 || s.Attributes > MaxAttributes:
		return fmt.Errorf("record: attributes must be between 0 and %d", MaxAttributes)
	case s.Variants < 1:
		return fmt.Errorf("record: variants must be at least 1")
	}
	return nil
}

// ContentType implements Source.
func (s Spec) ContentType() string { return s.MediaType }

// Variant says which of the spec's variants the batch with this sequence shows.
func (s Spec) Variant(sequence uint64) int { return int(sequence % uint64(s.Variants)) }

// Fill implements Source. The spec's defaults must be set.
func (s Spec) Fill(r *Record, b Batch, index uint32) {
	identity := b.Identity(index)
	noise := s.noise(s.Variant(b.Sequence), index)
	r.ID = identity.ID()
	r.TimestampUnixNano = identity.TimestampUnixNano()
	r.Version = version(noise)
	r.Payload = s.appendPayload(r.Payload[:0], noise, identity)
	r.Attributes = s.appendAttributes(r.Attributes[:0], noise)
}

// noise is the seed of everything random in one record.
func (s Spec) noise(variant int, index uint32) uint64 {
	return mix(s.Seed ^ mix(uint64(variant)<<32|uint64(index)))
}

// version is between 1 and 8, so that it always takes one byte as a varint.
func version(noise uint64) uint32 { return 1 + uint32(noise>>61) }

func (s Spec) appendPayload(dst []byte, noise uint64, identity Identity) []byte {
	size := s.PayloadBytes
	if spread := uint64(s.PayloadSpreadBytes); spread > 0 {
		size += int(noise>>8%(2*spread+1)) - int(spread)
	}
	dst = slices.Grow(dst, size)
	dst = append(dst, payloadHead...)
	dst = AppendBatchDigits(dst, identity.Producer, identity.Sequence)
	dst = appendHex(dst, uint64(identity.Index), identityDigits-BatchDigits)
	dst = append(dst, payloadText...)
	text := size - MinPayloadBytes
	same := int(s.Compressibility * float64(text))
	for n := same; n > 0; n -= len(phrase) {
		dst = append(dst, phrase[:min(n, len(phrase))]...)
	}
	dst = appendNoise(dst, noise, text-same)
	return append(dst, payloadTail...)
}

// attributeValues are the values that attributes take.
var attributeValues = func() (values [64]string) {
	for i := range values {
		values[i] = fmt.Sprintf("value-%02d", i)
	}
	return values
}()

var attributeKeys = [MaxAttributes]string{
	"attr_0", "attr_1", "attr_2", "attr_3", "attr_4", "attr_5", "attr_6", "attr_7", "attr_8", "attr_9",
}

func (s Spec) appendAttributes(dst []Attribute, noise uint64) []Attribute {
	for i := range s.Attributes {
		noise = mix(noise)
		dst = append(dst, Attribute{Key: attributeKeys[i], Value: attributeValues[noise>>58]})
	}
	return dst
}

// AppendBatchDigits appends the digits of a payload's identity that are the same for a whole batch.
func AppendBatchDigits(dst []byte, producer uint16, sequence uint64) []byte {
	dst = appendHex(dst, uint64(producer), 4)
	return appendHex(dst, sequence, BatchDigits-4)
}

func appendHex(dst []byte, v uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[v>>shift&15])
	}
	return dst
}

// appendNoise appends n random characters between ':' and 'Y', which JSON need not escape: eight from each step of the
// generator.
func appendNoise(dst []byte, state uint64, n int) []byte {
	const (
		fiveBits = 0x1f1f1f1f1f1f1f1f
		colons   = 0x3a3a3a3a3a3a3a3a
	)
	for ; n >= 8; n -= 8 {
		state = mix(state)
		dst = binary.LittleEndian.AppendUint64(dst, state&fiveBits+colons)
	}
	for state = mix(state); n > 0; n-- {
		dst = append(dst, byte(state&0x1f)+0x3a)
		state >>= 8
	}
	return dst
}

// mix scrambles 64 bits, in the way of wyhash: a 128-bit product folded onto itself.
func mix(v uint64) uint64 {
	high, low := bits.Mul64(v^0xa0761d6478bd642f, 0xe7037ed1a0b428db)
	return (high ^ low) + 0x9e3779b97f4a7c15
}

// Hash64 mixes bytes into 64 bits that look random; it is not cryptographic.
func Hash64(seed uint64, b []byte) uint64 {
	h := mix(seed ^ uint64(len(b)))
	for ; len(b) >= 8; b = b[8:] {
		h = mix(h ^ binary.LittleEndian.Uint64(b))
	}
	var tail [8]byte
	copy(tail[:], b)
	return mix(h ^ binary.LittleEndian.Uint64(tail[:]))
}

// Uniform returns number n of a deterministic sequence of numbers evenly spread over [0, 1).
func Uniform(seed, n uint64) float64 {
	return float64(mix(seed^mix(n))>>11) / (1 << 53)
}
