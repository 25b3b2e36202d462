package batch

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
)

// Tags of RecordColumns and AttributeColumn. An array may come packed (wire type bytes) or as a single element.
const (
	tagColumnEventIDs       = 1<<3 | wireBytes
	tagColumnTimes          = 2<<3 | wireBytes
	tagColumnTime           = 2<<3 | wireFixed64
	tagColumnVersions       = 3<<3 | wireBytes
	tagColumnVersion        = 3<<3 | wireFixed32
	tagColumnPayloads       = 4<<3 | wireBytes
	tagColumnPayloadLengths = 5<<3 | wireBytes
	tagColumnPayloadLength  = 5<<3 | wireFixed32
	tagColumnAttributes     = 6<<3 | wireBytes

	tagAttributeKey          = 1<<3 | wireBytes
	tagAttributeValues       = 2<<3 | wireBytes
	tagAttributeValueLengths = 3<<3 | wireBytes
	tagAttributeValueLength  = 3<<3 | wireFixed32
)

const (
	timeBytes   = 8 // of a timestamp
	numberBytes = 4 // of a version or a length
)

// columns is a RecordColumns, as spans of the batch's bytes.
type columns struct {
	eventIDs, times, versions, payloads, payloadLengths span
	attributeCount                                      int
	attributes                                          [MaxAttributeColumns]attributeColumn
}

type attributeColumn struct{ key, values, lengths span }

func columnsMalformed() *refusal.Error {
	return refusal.New(refusal.Malformed, "columns", "the bytes of columns are not a valid protobuf message")
}

// parse reads every RecordColumns of the request raw: they are merged, as protobuf merges them.
// REQUIRES: raw is valid wire format at its top level.
func (c *columns) parse(raw []byte) *refusal.Error {
	for i := 0; i < len(raw); {
		f, next := nextField(raw, i)
		if next == malformed {
			return columnsMalformed()
		}
		if f.tag == tagColumns {
			if refused := c.parseMessage(raw, f.start, f.end); refused != nil {
				return refused
			}
		}
		i = next
	}
	return nil
}

// parseMessage reads the RecordColumns raw[start:end] on top of what c holds.
func (c *columns) parseMessage(raw []byte, start, end int) *refusal.Error {
	b := raw[:end]
	for i := start; i < end; {
		f, next := nextField(b, i)
		if next == malformed {
			return columnsMalformed()
		}
		i = next
		var refused *refusal.Error
		switch f.tag {
		case tagColumnEventIDs:
			c.eventIDs = newSpan(f.start, f.end)
		case tagColumnPayloads:
			c.payloads = newSpan(f.start, f.end)
		case tagColumnTimes, tagColumnTime:
			refused = addChunk(&c.times, f, timeBytes, "timestamps_unix_nano")
		case tagColumnVersions, tagColumnVersion:
			refused = addChunk(&c.versions, f, numberBytes, "versions")
		case tagColumnPayloadLengths, tagColumnPayloadLength:
			refused = addChunk(&c.payloadLengths, f, numberBytes, "payload_lengths")
		case tagColumnAttributes:
			refused = c.addAttribute(b, f.start, f.end)
		}
		if refused != nil {
			return refused
		}
	}
	return nil
}

// addChunk adds the elements of f to an array, which must be in one piece.
func addChunk(array *span, f field, width int, name string) *refusal.Error {
	chunk := newSpan(f.start, f.end)
	switch {
	case chunk.len()%width != 0:
		return refusal.New(refusal.Malformed, name, "%s has %d bytes, not a multiple of %d", name, chunk.len(), width)
	case chunk.len() == 0:
		return nil
	case array.len() != 0:
		return refusal.New(refusal.Malformed, name, "%s comes in several pieces; send it as one packed array", name)
	}
	*array = chunk
	return nil
}

// addAttribute reads the AttributeColumn b[start:end].
func (c *columns) addAttribute(b []byte, start, end int) *refusal.Error {
	if c.attributeCount == MaxAttributeColumns {
		return refusal.New(refusal.TooLarge, "attributes", "the batch has more than %d attributes", MaxAttributeColumns)
	}
	b = b[:end]
	var a attributeColumn
	for i := start; i < end; {
		f, next := nextField(b, i)
		if next == malformed {
			return columnsMalformed()
		}
		i = next
		switch f.tag {
		case tagAttributeKey:
			if !utf8.Valid(b[f.start:f.end]) {
				return refusal.New(refusal.InvalidField, "key", "an attribute key is not valid UTF-8")
			}
			a.key = newSpan(f.start, f.end)
		case tagAttributeValues:
			a.values = newSpan(f.start, f.end)
		case tagAttributeValueLengths, tagAttributeValueLength:
			if refused := addChunk(&a.lengths, f, numberBytes, "value_lengths"); refused != nil {
				return refused
			}
		}
	}
	c.attributes[c.attributeCount] = a
	c.attributeCount++
	return nil
}

// validate reads and judges the columns of the request raw, and completes h. REQUIRES: c is empty.
func (c *columns) validate(raw []byte, limits Limits, h *Header) *refusal.Error {
	if refused := c.parse(raw); refused != nil {
		return refused
	}
	if refused := c.checkShape(limits); refused != nil {
		return refused
	}
	n := c.records()
	h.MinTimeUnixNano, h.MaxTimeUnixNano = timeBounds(c.times.of(raw))
	if h.MinTimeUnixNano < limits.MinTimeUnixNano || h.MaxTimeUnixNano > limits.MaxTimeUnixNano {
		return c.timeRefusal(raw, limits)
	}
	total, largest := lengthSums(c.payloadLengths.of(raw))
	if total != uint64(c.payloads.len()) {
		return refusal.New(refusal.InvalidField, "payload_lengths", "payload_lengths add up to %d, payloads has %d bytes",
			total, c.payloads.len())
	}
	if refused := c.checkAttributes(raw, limits, largest); refused != nil {
		return refused
	}
	h.Layout, h.Records = LayoutColumns, uint32(n)
	return nil
}

func (c *columns) records() int { return c.eventIDs.count(eventIDBytes) }

// checkShape holds the arrays' lengths against the number of event ids.
func (c *columns) checkShape(limits Limits) *refusal.Error {
	n := c.records()
	times, versions, lengths := c.times.count(timeBytes), c.versions.count(numberBytes), c.payloadLengths.count(numberBytes)
	switch {
	case c.eventIDs.len()%eventIDBytes != 0:
		return refusal.New(refusal.InvalidField, "event_ids", "event_ids has %d bytes, not a multiple of 16", c.eventIDs.len())
	case n == 0 && times+versions+lengths+c.payloads.len() > 0:
		return refusal.New(refusal.MissingField, "event_ids", "event_ids is missing")
	case n == 0:
		return refusal.New(refusal.EmptyBatch, "columns", "the batch has no records")
	case n > limits.MaxRecords:
		return refusal.New(refusal.TooLarge, "columns", "the batch has %d records, the limit is %d", n, limits.MaxRecords)
	case times == 0:
		return refusal.New(refusal.MissingField, "timestamps_unix_nano", "timestamps_unix_nano is missing")
	case times != n:
		return countRefusal("timestamps_unix_nano", times, n)
	case versions != 0 && versions != n:
		return countRefusal("versions", versions, n)
	case lengths == 0:
		return refusal.New(refusal.MissingField, "payload_lengths", "payload_lengths is missing")
	case lengths != n:
		return countRefusal("payload_lengths", lengths, n)
	}
	return nil
}

func countRefusal(name string, count, n int) *refusal.Error {
	return refusal.New(refusal.InvalidField, name, "%s has %d entries for %d records", name, count, n)
}

// timeBounds returns the least and the greatest of packed timestamps.
func timeBounds(packed []byte) (least, greatest int64) {
	least, greatest = math.MaxInt64, math.MinInt64
	for ; len(packed) >= timeBytes; packed = packed[timeBytes:] {
		t := int64(binary.LittleEndian.Uint64(packed))
		least, greatest = min(least, t), max(greatest, t)
	}
	return least, greatest
}

// lengthSums returns the sum of packed lengths and the greatest of them. A batch is too small for the sum to overflow.
func lengthSums(packed []byte) (sum uint64, greatest uint32) {
	for ; len(packed) >= numberBytes; packed = packed[numberBytes:] {
		n := binary.LittleEndian.Uint32(packed)
		sum += uint64(n)
		greatest = max(greatest, n)
	}
	return sum, greatest
}

// number returns element i of packed fixed32 values.
func number(raw []byte, packed span, i int) uint32 {
	return binary.LittleEndian.Uint32(packed.at(i, numberBytes).of(raw))
}

// timeRefusal blames the first record whose timestamp is out of range.
func (c *columns) timeRefusal(raw []byte, limits Limits) *refusal.Error {
	for i := range c.records() {
		t := int64(binary.LittleEndian.Uint64(c.times.at(i, timeBytes).of(raw)))
		if t < limits.MinTimeUnixNano || t > limits.MaxTimeUnixNano {
			code, text := timeFault(t, limits)
			return c.blame(raw, i, code, "timestamps_unix_nano", "%s", text)
		}
	}
	panic("batch: every timestamp is within its bounds, but their bounds are not")
}

// blame returns a refusal that names record i.
func (c *columns) blame(raw []byte, i int, code refusal.Code, field, format string, args ...any) *refusal.Error {
	refused := refusal.New(code, field, format, args...)
	refused.RecordIndex = i
	refused.EventID = eventIDCopy(c.eventIDs.at(i, eventIDBytes).of(raw))
	return refused
}

// checkAttributes judges the attribute columns, and with them the size of the records; largestPayload is in bytes.
func (c *columns) checkAttributes(raw []byte, limits Limits, largestPayload uint32) *refusal.Error {
	n := c.records()
	bound := uint64(largestPayload) // no record is larger than that
	var expanded uint64
	for k := range c.attributes[:c.attributeCount] {
		a := &c.attributes[k]
		if refused := c.checkKey(raw, k); refused != nil {
			return refused
		}
		if count := a.lengths.count(numberBytes); count != n {
			return countRefusal("value_lengths", count, n)
		}
		total, largest := lengthSums(a.lengths.of(raw))
		if total != uint64(a.values.len()) {
			return refusal.New(refusal.InvalidField, "value_lengths",
				"value_lengths of attribute %q add up to %d, values has %d bytes", a.key.of(raw), total, a.values.len())
		}
		if refused := c.checkValues(raw, a); refused != nil {
			return refused
		}
		bound += uint64(a.key.len()) + uint64(largest)
		expanded += total + uint64(a.key.len())*uint64(present(raw, a.lengths))
	}
	if expanded > MaxAttributeBytes {
		return refusal.New(refusal.TooLarge, "attributes",
			"the attributes take %d bytes when written for each record, the limit is %d", expanded, MaxAttributeBytes)
	}
	if bound > uint64(limits.MaxRecordBytes) {
		return c.checkRecordSizes(raw, limits)
	}
	return nil
}

// present counts the lengths that are not 0.
func present(raw []byte, lengths span) int {
	count := 0
	for packed := lengths.of(raw); len(packed) >= numberBytes; packed = packed[numberBytes:] {
		if binary.LittleEndian.Uint32(packed) != 0 {
			count++
		}
	}
	return count
}

func (c *columns) checkKey(raw []byte, k int) *refusal.Error {
	key := c.attributes[k].key.of(raw)
	switch {
	case len(key) == 0:
		return refusal.New(refusal.InvalidField, "key", "an attribute key is empty")
	case len(key) > MaxKeyBytes:
		return refusal.New(refusal.InvalidField, "key", "an attribute key has %d bytes, the limit is %d", len(key), MaxKeyBytes)
	case hasNUL(key):
		return refusal.New(refusal.InvalidField, "key", "an attribute key holds a NUL character")
	}
	for _, earlier := range c.attributes[:k] {
		if string(earlier.key.of(raw)) == string(key) {
			return refusal.New(refusal.InvalidField, "key", "the attribute key %q appears twice", key)
		}
	}
	return nil
}

// checkValues judges the values of a whose lengths are known to add up.
func (c *columns) checkValues(raw []byte, a *attributeColumn) *refusal.Error {
	values := a.values.of(raw)
	if plain(values) {
		return nil
	}
	start := 0
	for i := range c.records() {
		end := start + int(number(raw, a.lengths, i))
		switch value := values[start:end]; {
		case !utf8.Valid(value):
			return c.blame(raw, i, refusal.InvalidField, "values", "the value of attribute %q is not valid UTF-8", a.key.of(raw))
		case hasNUL(value):
			return c.blame(raw, i, refusal.InvalidField, "values", "the value of attribute %q holds a NUL character", a.key.of(raw))
		}
		start = end
	}
	return nil
}

// plain reports whether b is ASCII without NUL, so that every part of it is valid by itself.
func plain(b []byte) bool {
	if hasNUL(b) {
		return false
	}
	const high = 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// checkRecordSizes looks at each record by itself; it is needed only where the largest parts together exceed the limit.
func (c *columns) checkRecordSizes(raw []byte, limits Limits) *refusal.Error {
	for i := range c.records() {
		size := uint64(number(raw, c.payloadLengths, i))
		for _, a := range c.attributes[:c.attributeCount] {
			if n := number(raw, a.lengths, i); n != 0 {
				size += uint64(n) + uint64(a.key.len())
			}
		}
		if size > uint64(limits.MaxRecordBytes) {
			return c.blame(raw, i, refusal.TooLarge, "columns", "the record has %d bytes, the limit is %d", size, limits.MaxRecordBytes)
		}
	}
	return nil
}
