package batch

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
)

// Tags of DataRecord's fields and of the entries of its attributes.
const (
	tagRecordEventID    = 1<<3 | wireBytes
	tagRecordTenant     = 2<<3 | wireBytes
	tagRecordEndpoint   = 3<<3 | wireBytes
	tagRecordTime       = 4<<3 | wireFixed64
	tagRecordVersion    = 5<<3 | wireVarint
	tagRecordPayload    = 6<<3 | wireBytes
	tagRecordAttributes = 7<<3 | wireBytes

	tagEntryKey   = 1<<3 | wireBytes
	tagEntryValue = 2<<3 | wireBytes
)

// fault says what is wrong with some bytes, without saying where.
type fault struct {
	code  refusal.Code
	field string
	text  string
}

// Faults of rows. They are values made once, so that finding one costs no allocation.
var (
	faultWire         = &fault{refusal.Malformed, "", "the bytes are not a valid protobuf message"}
	faultTenantUTF8   = &fault{refusal.InvalidField, "tenant_id", "tenant_id is not valid UTF-8"}
	faultEndpointUTF8 = &fault{refusal.InvalidField, "endpoint_id", "endpoint_id is not valid UTF-8"}
	faultKeyUTF8      = &fault{refusal.InvalidField, "attributes", "an attribute key is not valid UTF-8"}
	faultValueUTF8    = &fault{refusal.InvalidField, "attributes", "an attribute value is not valid UTF-8"}
	faultKeyEmpty     = &fault{refusal.InvalidField, "attributes", "an attribute key is empty"}
	faultAttributeNUL = &fault{refusal.InvalidField, "attributes", "an attribute holds a NUL character"}
)

// record is one DataRecord, as spans of the batch's bytes.
type record struct {
	event, tenant, endpoint, payload span
	timeUnixNano                     int64
	version                          uint32
}

// attribute is one entry of DataRecord.attributes.
type attribute struct{ key, value span }

// parse reads the DataRecord raw[start:end]. It checks what protobuf checks (wire format, UTF-8) and the attributes, which
// are not kept; attributes are appended to *attributes where that is not nil.
func (r *record) parse(raw []byte, start, end int, attributes *[]attribute) *fault {
	b := raw[:end]
	*r = record{}
	for i := start; i < len(b); {
		switch b[i] {
		case tagRecordEventID:
			from, to := lengthPrefixed(b, i+1)
			if to == malformed {
				return faultWire
			}
			r.event = newSpan(from, to)
			i = to
		case tagRecordTime:
			if len(b)-i < 9 {
				return faultWire
			}
			r.timeUnixNano = int64(binary.LittleEndian.Uint64(b[i+1:]))
			i += 9
		case tagRecordVersion:
			version, next := varint(b, i+1)
			if next == malformed {
				return faultWire
			}
			r.version = uint32(version)
			i = next
		case tagRecordPayload:
			from, to := lengthPrefixed(b, i+1)
			if to == malformed {
				return faultWire
			}
			r.payload = newSpan(from, to)
			i = to
		case tagRecordAttributes:
			from, to := lengthPrefixed(b, i+1)
			if to == malformed {
				return faultWire
			}
			a, f := parseAttribute(b, from, to)
			if f != nil {
				return f
			}
			if attributes != nil {
				*attributes = append(*attributes, a)
			}
			i = to
		default:
			next, f := r.parseOther(b, i, attributes)
			if f != nil {
				return f
			}
			i = next
		}
	}
	return nil
}

// parseOther reads the field at b[i:], which is a name, a field with an unusual tag or an unknown one.
func (r *record) parseOther(b []byte, i int, attributes *[]attribute) (next int, _ *fault) {
	f, next := nextField(b, i)
	if next == malformed {
		return 0, faultWire
	}
	switch f.tag {
	case tagRecordTenant:
		if !utf8.Valid(b[f.start:f.end]) {
			return 0, faultTenantUTF8
		}
		r.tenant = newSpan(f.start, f.end)
	case tagRecordEndpoint:
		if !utf8.Valid(b[f.start:f.end]) {
			return 0, faultEndpointUTF8
		}
		r.endpoint = newSpan(f.start, f.end)
	// The fields that parse knows by their first byte come here where the tag was written in more bytes than it needs.
	case tagRecordEventID:
		r.event = newSpan(f.start, f.end)
	case tagRecordTime:
		r.timeUnixNano = int64(f.number)
	case tagRecordVersion:
		r.version = uint32(f.number)
	case tagRecordPayload:
		r.payload = newSpan(f.start, f.end)
	case tagRecordAttributes:
		a, fault := parseAttribute(b, f.start, f.end)
		if fault != nil {
			return 0, fault
		}
		if attributes != nil {
			*attributes = append(*attributes, a)
		}
	}
	return next, nil
}

// parseAttribute reads the map entry b[start:end]. A missing key or value is the empty string, as in any protobuf map.
func parseAttribute(b []byte, start, end int) (a attribute, _ *fault) {
	b = b[:end]
	if a, ok := plainAttribute(b, start); ok {
		return a, nil
	}
	for i := start; i < end; {
		f, next := nextField(b, i)
		if next == malformed {
			return a, faultWire
		}
		switch f.tag {
		case tagEntryKey:
			if !utf8.Valid(b[f.start:f.end]) {
				return a, faultKeyUTF8
			}
			a.key = newSpan(f.start, f.end)
		case tagEntryValue:
			if !utf8.Valid(b[f.start:f.end]) {
				return a, faultValueUTF8
			}
			a.value = newSpan(f.start, f.end)
		}
		i = next
	}
	if a.key.len() == 0 {
		return a, faultKeyEmpty
	}
	if hasNUL(a.key.of(b)) || hasNUL(a.value.of(b)) {
		return a, faultAttributeNUL
	}
	return a, nil
}

// plainAttribute reads the map entry b[start:] where it has the usual form: a key and a value, in this order, both short, ASCII
// and not empty.
func plainAttribute(b []byte, start int) (a attribute, ok bool) {
	entry := b[start:]
	if len(entry) < 6 || entry[0] != tagEntryKey || int(entry[1]) > len(entry)-4 {
		return a, false
	}
	valueTag := 2 + int(entry[1])
	// Both lengths are within 1 to 127, hence one byte each, because everything behind the first tag is plain.
	if entry[valueTag] != tagEntryValue || int(entry[valueTag+1]) != len(entry)-valueTag-2 || !plain(entry[1:]) {
		return a, false
	}
	a.key = newSpan(start+2, start+valueTag)
	a.value = newSpan(start+valueTag+2, len(b))
	return a, true
}

func hasNUL(b []byte) bool { return bytes.IndexByte(b, 0) >= 0 }
