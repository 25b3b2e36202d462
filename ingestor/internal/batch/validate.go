package batch

import (
	"unicode/utf8"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
)

// Tags of WriteBatchRequest's fields.
const (
	tagBatchID     = 1<<3 | wireVarint
	tagEndpoint    = 2<<3 | wireBytes
	tagAckLevel    = 3<<3 | wireVarint
	tagProducer    = 4<<3 | wireBytes
	tagEpoch       = 5<<3 | wireVarint
	tagSequence    = 6<<3 | wireVarint
	tagContentType = 7<<3 | wireBytes
	tagRecords     = 8<<3 | wireBytes
	tagColumns     = 9<<3 | wireBytes
)

// eventIDBytes is the size of a UUID.
const eventIDBytes = 16

// Validate judges a storage.WriteBatchRequest: raw is the message as received, tenant the credential's. On nil, h describes
// the batch and Rows.AppendBatch will take it; h aliases raw. On a refusal h holds nothing of use but BatchID, which is set
// wherever it could be read. A refusal of a record names it. Nothing is allocated on success.
//
// What was accepted once is accepted again under Limits{}, which is how stored batches are read back.
func Validate(raw []byte, tenant string, limits Limits, h *Header) *refusal.Error {
	*h = Header{}
	if len(raw) > maxRawBytes {
		return refusal.New(refusal.TooLarge, "", "the batch has %d bytes; no server takes more than %d", len(raw), maxRawBytes)
	}
	v := validator{raw: raw, tenant: tenant, limits: limits.normalised(), header: h}
	position, refused := v.scan()
	if refused != nil {
		rereadBatchID(raw, position, h)
		return v.firstOffender(refused)
	}
	return v.finish()
}

// ReadHeader reads what a stored batch says about itself: for bytes that Validate accepted once, and that a checksum has kept since, h
// becomes what Validate made it, except that the bounds of the timestamps are 0 where the batch has rows. Of rows nothing is looked at
// but how many there are, which takes a few nanoseconds for each. Columns are validated in full: that takes no longer.
func ReadHeader(raw []byte, h *Header) *refusal.Error {
	*h = Header{}
	v := validator{raw: raw, limits: Limits{}.normalised(), header: h, stored: true}
	if _, refused := v.scan(); refused != nil {
		return refused
	}
	return v.finish()
}

// validator is the state of one pass over a batch.
type validator struct {
	raw    []byte
	tenant string
	limits Limits
	header *Header
	// stored: the rows were validated before, and are only counted.
	stored bool

	endpoint, contentType, producer span
	records                         int
	columns                         bool

	// The endpoint of the batch may come after its records, or more than once: the records' endpoints are compared with each
	// other as they come, and with the batch's at the end.
	named, strayed endpointUse
}

// endpointUse is a record that names an endpoint.
type endpointUse struct {
	set             bool
	index           int
	event, endpoint span
}

// scan reads the message. On a refusal it returns the position behind the field that is to blame.
func (v *validator) scan() (position int, _ *refusal.Error) {
	raw, h := v.raw, v.header
	for i := 0; i < len(raw); {
		f, next := nextField(raw, i)
		if next == malformed {
			return len(raw), refusal.New(refusal.Malformed, "", "the bytes are not a valid protobuf message (at byte %d)", i)
		}
		i = next
		switch f.tag {
		case tagRecords:
			if v.stored {
				v.records++
				continue
			}
			if refused := v.row(f.start, f.end); refused != nil {
				return i, refused
			}
		case tagColumns:
			v.columns = true // read in finish, when all the parts are known
		case tagBatchID:
			h.BatchID = f.number
		case tagEndpoint:
			if !utf8.Valid(raw[f.start:f.end]) {
				return i, refusal.New(refusal.InvalidField, "endpoint_id", "endpoint_id is not valid UTF-8")
			}
			v.endpoint = newSpan(f.start, f.end)
		case tagAckLevel:
			h.AckLevel = AckLevel(int32(f.number))
		case tagProducer:
			v.producer = newSpan(f.start, f.end)
		case tagEpoch:
			h.Epoch = uint32(f.number)
		case tagSequence:
			h.Sequence = f.number
		case tagContentType:
			if !utf8.Valid(raw[f.start:f.end]) {
				return i, refusal.New(refusal.InvalidField, "content_type", "content_type is not valid UTF-8")
			}
			v.contentType = newSpan(f.start, f.end)
		}
	}
	return len(raw), nil
}

// row judges the DataRecord raw[start:end].
func (v *validator) row(start, end int) *refusal.Error {
	var r record
	if f := r.parse(v.raw, start, end, nil); f != nil {
		return v.blame(f.code, f.field, rereadEventID(v.raw, start, end), "%s", f.text)
	}
	h := v.header
	if r.event.len() != eventIDBytes || r.timeUnixNano < v.limits.MinTimeUnixNano ||
		r.timeUnixNano > v.limits.MaxTimeUnixNano || end-start > v.limits.MaxRecordBytes || v.records >= v.limits.MaxRecords {
		return v.rowRefusal(&r, end-start)
	}
	if r.tenant.len() != 0 && string(r.tenant.of(v.raw)) != v.tenant {
		return v.blame(refusal.WrongTenant, "tenant_id", r.event, "tenant_id %q is not the tenant of the credential",
			r.tenant.of(v.raw))
	}
	if r.endpoint.len() != 0 {
		v.noteEndpoint(&r)
	}
	if v.records == 0 {
		h.MinTimeUnixNano, h.MaxTimeUnixNano = r.timeUnixNano, r.timeUnixNano
	}
	h.MinTimeUnixNano = min(h.MinTimeUnixNano, r.timeUnixNano)
	h.MaxTimeUnixNano = max(h.MaxTimeUnixNano, r.timeUnixNano)
	v.records++
	return nil
}

// rowRefusal says which of row's checks r, of a message of n bytes, has failed.
func (v *validator) rowRefusal(r *record, n int) *refusal.Error {
	switch {
	case v.records >= v.limits.MaxRecords:
		return tooManyRecords(v.limits)
	case n > v.limits.MaxRecordBytes:
		return v.blame(refusal.TooLarge, "records", r.event, "the record has %d bytes, the limit is %d",
			n, v.limits.MaxRecordBytes)
	case r.event.len() == 0:
		return v.blame(refusal.MissingField, "event_id", r.event, "event_id is missing")
	case r.event.len() != eventIDBytes:
		return v.blame(refusal.InvalidField, "event_id", r.event, "event_id has %d bytes, not 16", r.event.len())
	default:
		code, text := timeFault(r.timeUnixNano, v.limits)
		return v.blame(code, "timestamp_unix_nano", r.event, "%s", text)
	}
}

func tooManyRecords(limits Limits) *refusal.Error {
	return refusal.New(refusal.TooLarge, "records", "the batch has more than %d records", limits.MaxRecords)
}

// blame returns a refusal that names the record being read.
func (v *validator) blame(code refusal.Code, field string, event span, format string, args ...any) *refusal.Error {
	refused := refusal.New(code, field, format, args...)
	refused.RecordIndex = v.records
	refused.EventID = eventIDCopy(event.of(v.raw))
	return refused
}

// eventIDCopy returns a copy of an event id as sent, cut to 16 bytes; nil for none.
func eventIDCopy(event []byte) []byte {
	return append([]byte(nil), event[:min(len(event), eventIDBytes)]...)
}

// noteEndpoint keeps the first record that names an endpoint, and the first one that names another.
func (v *validator) noteEndpoint(r *record) {
	use := endpointUse{set: true, index: v.records, event: r.event, endpoint: r.endpoint}
	switch {
	case !v.named.set:
		v.named = use
	case !v.strayed.set && string(r.endpoint.of(v.raw)) != string(v.named.endpoint.of(v.raw)):
		v.strayed = use
	}
}

// endpointRefusal blames the first record whose endpoint is not the batch's.
func (v *validator) endpointRefusal() *refusal.Error {
	for _, use := range [...]*endpointUse{&v.named, &v.strayed} {
		if use.set && string(use.endpoint.of(v.raw)) != string(v.endpoint.of(v.raw)) {
			refused := refusal.New(refusal.InvalidField, "endpoint_id", "endpoint_id %q is not the endpoint of the batch",
				use.endpoint.of(v.raw))
			refused.RecordIndex, refused.EventID = use.index, eventIDCopy(use.event.of(v.raw))
			return refused
		}
	}
	return nil
}

// firstOffender returns refused, or the refusal of an earlier record whose endpoint is not the batch's.
func (v *validator) firstOffender(refused *refusal.Error) *refusal.Error {
	if refused.RecordIndex == refusal.NoRecord || v.endpoint.len() == 0 {
		return refused
	}
	if earlier := v.endpointRefusal(); earlier != nil && earlier.RecordIndex < refused.RecordIndex {
		return earlier
	}
	return refused
}

// finish judges the batch as a whole, when every field has been read.
func (v *validator) finish() *refusal.Error {
	h := v.header
	h.Endpoint, h.ContentType = v.endpoint.of(v.raw), v.contentType.of(v.raw)
	if refused := v.names(); refused != nil {
		return refused
	}
	if refused := v.endpointRefusal(); refused != nil {
		return refused
	}
	switch {
	case v.columns && v.records > 0:
		return refusal.New(refusal.InvalidField, "columns", "the batch has both records and columns")
	case v.columns:
		var c columns
		return c.validate(v.raw, v.limits, h)
	case v.records == 0:
		return refusal.New(refusal.EmptyBatch, "records", "the batch has no records")
	}
	h.Layout, h.Records = LayoutRows, uint32(v.records)
	return nil
}

// names judges the fields that name something: endpoint, content type, ack level, producer.
func (v *validator) names() *refusal.Error {
	h := v.header
	switch {
	case len(h.Endpoint) == 0:
		return refusal.New(refusal.MissingField, "endpoint_id", "endpoint_id is missing")
	case len(h.Endpoint) > MaxNameBytes:
		return refusal.New(refusal.InvalidField, "endpoint_id", "endpoint_id has %d bytes, the limit is %d",
			len(h.Endpoint), MaxNameBytes)
	case hasNUL(h.Endpoint):
		return refusal.New(refusal.InvalidField, "endpoint_id", "endpoint_id holds a NUL character")
	case len(h.ContentType) > MaxNameBytes:
		return refusal.New(refusal.InvalidField, "content_type", "content_type has %d bytes, the limit is %d",
			len(h.ContentType), MaxNameBytes)
	case hasNUL(h.ContentType):
		return refusal.New(refusal.InvalidField, "content_type", "content_type holds a NUL character")
	case h.AckLevel < AckUnspecified || h.AckLevel > AckCommitted:
		return refusal.New(refusal.InvalidField, "ack_level", "ack_level %d does not exist", h.AckLevel)
	case v.producer.len() == 0:
		return nil
	case v.producer.len() != len(h.Producer):
		return refusal.New(refusal.InvalidField, "producer_id", "producer_id has %d bytes, not 16", v.producer.len())
	case h.Sequence == 0:
		return refusal.New(refusal.MissingField, "sequence", "sequence is missing; a batch with a producer_id needs one")
	}
	h.HasProducer = true
	copy(h.Producer[:], v.producer.of(v.raw))
	return nil
}

// timeFault says what is wrong with a timestamp that lies outside limits.
func timeFault(timeUnixNano int64, limits Limits) (refusal.Code, string) {
	switch {
	case timeUnixNano == 0:
		return refusal.MissingField, "the timestamp is missing"
	case timeUnixNano < limits.MinTimeUnixNano:
		return refusal.InvalidField, "the timestamp is too early"
	default:
		return refusal.InvalidField, "the timestamp is too far in the future"
	}
}

// PeekBatchID returns the batch_id of a request of which only the beginning is at hand; 0 where it is not in there.
func PeekBatchID(prefix []byte) uint64 {
	var h Header
	rereadBatchID(prefix, 0, &h)
	return h.BatchID
}

// rereadBatchID reads what is left of a refused batch for its batch_id only, so that its answer can name it.
func rereadBatchID(raw []byte, i int, h *Header) {
	for i < len(raw) {
		f, next := nextField(raw, i)
		if next == malformed {
			return
		}
		if f.tag == tagBatchID {
			h.BatchID = f.number
		}
		i = next
	}
}

// rereadEventID reads the DataRecord raw[start:end] for its event_id only, as far as it can be read.
func rereadEventID(raw []byte, start, end int) (event span) {
	b := raw[:end]
	for i := start; i < end; {
		f, next := nextField(b, i)
		if next == malformed {
			break
		}
		if f.tag == tagRecordEventID {
			event = newSpan(f.start, f.end)
		}
		i = next
	}
	return event
}
