package batch

import (
	"bytes"
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
	// Attrs holds the records' attributes as JSON, one after the other. Records with equal attributes share one object, as long
	// as there are not many different ones in between.
	Attrs []byte

	// Room for the attributes of the record being read, kept between calls.
	attributes []attribute
	columns    *columns
	cursors    []uint32
	order      []int
	interner   *interner
	sorter     *sorter // nil until rows were out of order
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

// Grow makes room for n more records.
func (r *Rows) Grow(n int) { r.Refs = slices.Grow(r.Refs, n) }

// Trim gives back what is not needed for maxRecords records with maxAttrsBytes of attributes. REQUIRES: r is empty.
func (r *Rows) Trim(maxRecords, maxAttrsBytes int) {
	if cap(r.Refs) > maxRecords {
		r.Refs, r.sorter = nil, nil
	}
	if r.sorter != nil && cap(r.sorter.keys) > maxRecords {
		r.sorter = nil
	}
	if cap(r.Attrs) > maxAttrsBytes {
		r.Attrs = nil
	}
}

// Reset empties r and lets go of the batches; the memory of Refs and Attrs is kept for reuse.
func (r *Rows) Reset() {
	if r.interner != nil && len(r.Attrs) > 0 {
		r.interner.reset()
	}
	clear(r.Raws)
	clear(r.ContentTypes)
	r.Raws, r.ContentTypes, r.Refs, r.Attrs = r.Raws[:0], r.ContentTypes[:0], r.Refs[:0], r.Attrs[:0]
}

// AppendBatch adds the records of a batch that Validate has accepted, in the batch's order. The first one has firstLSN, the
// next firstLSN + 1, and so on. raw is kept. On bytes that are not a valid batch it returns ErrInvalid and adds nothing.
func (r *Rows) AppendBatch(raw []byte, firstLSN uint64) error {
	if r.interner == nil {
		r.interner = new(interner)
	}
	refs, attrs, raws := len(r.Refs), len(r.Attrs), len(r.Raws)
	if err := r.appendBatch(raw, firstLSN); err != nil {
		r.interner.reset() // it may know of what is dropped here
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
		attributes := r.appendAttributes(raw)
		ref.AttrOff, ref.AttrLen = attributes.offset, attributes.length
	}
	r.Refs = append(r.Refs, ref)
	return nil
}

// appendAttributes finds r.attributes, of which there is at least one, in Attrs, or writes them to it, and returns where they are.
func (r *Rows) appendAttributes(raw []byte) object {
	encoded, ok := encodedSpan(raw, r.attributes)
	if !ok {
		return r.writeAttributes(raw)
	}
	slot, known := r.internEncoded(raw, encoded)
	if !known {
		*slot = encodedAttributes{uint32(len(r.Raws) - 1), encoded, r.writeAttributes(raw)}
	}
	return slot.object
}

func (r *Rows) writeAttributes(raw []byte) object {
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
	r.Attrs = append(r.Attrs, '}')
	return r.internObject(start)
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
			attributes := r.appendColumnAttributes(raw, c, i)
			ref.AttrOff, ref.AttrLen = attributes.offset, attributes.length
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
func (r *Rows) appendColumnAttributes(raw []byte, c *columns, i int) object {
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
		return object{}
	}
	r.Attrs = append(r.Attrs, '}')
	return r.internObject(start)
}
