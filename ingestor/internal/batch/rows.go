package batch

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrInvalid says that bytes that should hold a valid batch do not.
var ErrInvalid = errors.New("batch: invalid batch")

// Ref locates one record. It holds no pointers, so that the garbage collector has nothing to scan.
type Ref struct {
	TimeUnixNano int64
	LSN          uint64
	// AttrOff and AttrLen locate the attributes in Rows.Attrs; AttrLen is 0 for a record without any.
	AttrOff uint64
	AttrLen uint32
	// Batch is the index in Rows.Raws of the bytes that the next three locate the record in.
	Batch      uint32
	EventOff   uint32
	PayloadOff uint32
	PayloadLen uint32
	Version    uint32
}

// Rows is a decoded table: the records of many batches, in any order. The zero value is ready to use.
type Rows struct {
	// Raws holds the batches' bytes as given to AppendBatch. They are aliased, not copied.
	Raws [][]byte
	// ContentTypes holds the content type of each of Raws, DefaultContentType where the batch names none.
	ContentTypes []string
	Refs         []Ref
	// Attrs holds the records' attributes as JSON, one after the other. Records with equal attributes share one object.
	Attrs []byte

	// Room for the attributes of the record being read, kept between calls.
	attributes []attribute
	columns    *columns
	cursors    []uint32
	order      []int
}

// Len returns the number of records.
func (r *Rows) Len() int { return len(r.Refs) }

// EventID returns the 16 bytes of record i's event id, aliasing its batch.
func (r *Rows) EventID(i int) []byte {
	ref := &r.Refs[i]
	return r.Raws[ref.Batch][ref.EventOff:][:eventIDBytes:eventIDBytes]
}

// Payload returns record i's payload, aliasing its batch.
func (r *Rows) Payload(i int) []byte {
	ref := &r.Refs[i]
	return r.Raws[ref.Batch][ref.PayloadOff:][:ref.PayloadLen:ref.PayloadLen]
}

// Attributes returns record i's attributes as a JSON object whose keys are sorted by their bytes, aliasing Attrs; empty for
// a record without attributes.
func (r *Rows) Attributes(i int) []byte {
	ref := &r.Refs[i]
	return r.Attrs[ref.AttrOff:][:ref.AttrLen:ref.AttrLen]
}

// ContentType returns the content type of record i's payload.
func (r *Rows) ContentType(i int) string { return r.ContentTypes[r.Refs[i].Batch] }

// Reset empties r and lets go of the batches; the memory of Refs and Attrs is kept for reuse.
func (r *Rows) Reset() {
	clear(r.Raws)
	clear(r.ContentTypes)
	r.Raws, r.ContentTypes, r.Refs, r.Attrs = r.Raws[:0], r.ContentTypes[:0], r.Refs[:0], r.Attrs[:0]
}

// SortByTime orders the records by timestamp, then by LSN.
func (r *Rows) SortByTime() {
	slices.SortFunc(r.Refs, func(a, b Ref) int {
		if c := cmp.Compare(a.TimeUnixNano, b.TimeUnixNano); c != 0 {
			return c
		}
		return cmp.Compare(a.LSN, b.LSN)
	})
}

// AppendBatch adds the records of a batch that Validate has accepted, in the batch's order. The first one has firstLSN, the
// next firstLSN + 1, and so on. raw is kept. On bytes that are not a valid batch it returns ErrInvalid and adds nothing.
func (r *Rows) AppendBatch(raw []byte, firstLSN uint64) error {
	refs, attrs, raws := len(r.Refs), len(r.Attrs), len(r.Raws)
	if err := r.appendBatch(raw, firstLSN); err != nil {
		r.Refs, r.Attrs, r.Raws, r.ContentTypes = r.Refs[:refs], r.Attrs[:attrs], r.Raws[:raws], r.ContentTypes[:raws]
		return err
	}
	return nil
}

func (r *Rows) appendBatch(raw []byte, firstLSN uint64) error {
	if len(raw) > maxRawBytes {
		return fmt.Errorf("%w: %d bytes", ErrInvalid, len(raw))
	}
	r.Raws = append(r.Raws, raw)
	r.ContentTypes = append(r.ContentTypes, DefaultContentType)
	contentType, hasColumns, first := span{}, false, len(r.Refs)
	for i := 0; i < len(raw); {
		f, next := nextField(raw, i)
		if next == malformed {
			return fmt.Errorf("%w: malformed at byte %d", ErrInvalid, i)
		}
		i = next
		switch f.tag {
		case tagRecords:
			if err := r.appendRow(raw, f.start, f.end, firstLSN+uint64(len(r.Refs)-first)); err != nil {
				return err
			}
		case tagColumns:
			hasColumns = true
		case tagContentType:
			contentType = newSpan(f.start, f.end)
		}
	}
	if contentType.len() > 0 {
		r.ContentTypes[len(r.ContentTypes)-1] = r.intern(contentType.of(raw))
	}
	if hasColumns {
		return r.appendColumns(raw, firstLSN)
	}
	return nil
}

// intern returns name as a string, the one of the batch before where it is the same.
func (r *Rows) intern(name []byte) string {
	if n := len(r.ContentTypes); n > 1 && r.ContentTypes[n-2] == string(name) {
		return r.ContentTypes[n-2]
	}
	return string(name)
}

// appendRow adds the DataRecord raw[start:end].
func (r *Rows) appendRow(raw []byte, start, end int, lsn uint64) error {
	var rec record
	r.attributes = r.attributes[:0]
	if f := rec.parse(raw, start, end, &r.attributes); f != nil {
		return fmt.Errorf("%w: LSN %d: %s", ErrInvalid, lsn, f.text)
	}
	if rec.event.len() != eventIDBytes {
		return fmt.Errorf("%w: LSN %d: an event id of %d bytes", ErrInvalid, lsn, rec.event.len())
	}
	ref := Ref{
		TimeUnixNano: rec.timeUnixNano,
		LSN:          lsn,
		Batch:        uint32(len(r.Raws) - 1),
		EventOff:     rec.event.start,
		PayloadOff:   rec.payload.start,
		PayloadLen:   uint32(rec.payload.len()),
		Version:      rec.version,
	}
	if len(r.attributes) > 0 {
		ref.AttrOff, ref.AttrLen = r.appendAttributes(raw)
	}
	r.Refs = append(r.Refs, ref)
	return nil
}

// appendAttributes writes r.attributes, of which there is at least one, to Attrs and returns where they are.
func (r *Rows) appendAttributes(raw []byte) (offset uint64, length uint32) {
	slices.SortStableFunc(r.attributes, func(a, b attribute) int {
		return bytes.Compare(a.key.of(raw), b.key.of(raw))
	})
	start := len(r.Attrs)
	for k, a := range r.attributes {
		if k+1 < len(r.attributes) && bytes.Equal(a.key.of(raw), r.attributes[k+1].key.of(raw)) {
			continue // the last one of a key wins
		}
		r.Attrs = appendMember(r.Attrs, start, a.key.of(raw), a.value.of(raw))
	}
	return r.closeObject(start)
}

// closeObject ends the JSON object that begins at Attrs[start:] and returns where it is: where the object before it is equal,
// it is that one.
func (r *Rows) closeObject(start int) (offset uint64, length uint32) {
	r.Attrs = append(r.Attrs, '}')
	length = uint32(len(r.Attrs) - start)
	if n := len(r.Refs); n > 0 && r.Refs[n-1].AttrLen == length {
		last := r.Refs[n-1].AttrOff
		if bytes.Equal(r.Attrs[last:last+uint64(length)], r.Attrs[start:]) {
			r.Attrs = r.Attrs[:start]
			return last, length
		}
	}
	return uint64(start), length
}

// appendColumns adds the records of raw's columns.
func (r *Rows) appendColumns(raw []byte, firstLSN uint64) error {
	if r.columns == nil {
		r.columns = new(columns)
	}
	c := r.columns
	*c = columns{}
	var h Header
	if refused := c.validate(raw, Limits{}.normalised(), &h); refused != nil {
		return fmt.Errorf("%w: LSN %d: %w", ErrInvalid, firstLSN, refused)
	}
	n := c.records()
	r.Refs = slices.Grow(r.Refs, n)
	r.sortColumns(raw, c)
	payload := c.payloads.start
	for i := range n {
		ref := Ref{
			TimeUnixNano: int64(binary.LittleEndian.Uint64(c.times.at(i, timeBytes).of(raw))),
			LSN:          firstLSN + uint64(i),
			Batch:        uint32(len(r.Raws) - 1),
			EventOff:     c.eventIDs.start + uint32(i*eventIDBytes),
			PayloadOff:   payload,
			PayloadLen:   number(raw, c.payloadLengths, i),
		}
		payload += ref.PayloadLen
		if c.versions.len() > 0 {
			ref.Version = number(raw, c.versions, i)
		}
		if c.attributeCount > 0 {
			ref.AttrOff, ref.AttrLen = r.appendColumnAttributes(raw, c, i)
		}
		r.Refs = append(r.Refs, ref)
	}
	return nil
}

// sortColumns notes in r.order the order of the attributes' keys, and sets their cursors to their first values.
func (r *Rows) sortColumns(raw []byte, c *columns) {
	r.order, r.cursors = r.order[:0], r.cursors[:0]
	for k, a := range c.attributes[:c.attributeCount] {
		r.order = append(r.order, k)
		r.cursors = append(r.cursors, a.values.start)
	}
	slices.SortFunc(r.order, func(a, b int) int {
		return bytes.Compare(c.attributes[a].key.of(raw), c.attributes[b].key.of(raw))
	})
}

// appendColumnAttributes writes record i's attributes to Attrs and moves the cursors on to the next record.
func (r *Rows) appendColumnAttributes(raw []byte, c *columns, i int) (offset uint64, length uint32) {
	start := len(r.Attrs)
	for _, k := range r.order {
		a := &c.attributes[k]
		n := number(raw, a.lengths, i)
		if n == 0 {
			continue
		}
		value := raw[r.cursors[k]:][:n]
		r.cursors[k] += n
		r.Attrs = appendMember(r.Attrs, start, a.key.of(raw), value)
	}
	if len(r.Attrs) == start {
		return 0, 0
	}
	return r.closeObject(start)
}
