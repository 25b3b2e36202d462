package engine

import (
	"encoding/binary"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

// preparedEncoder sends copies of bodies that were encoded beforehand, one for each variant of the spec and each size of batch. Only
// what names the batch is written anew: event ids, timestamps, and the digits of the identity in the payloads.
type preparedEncoder struct {
	spec   record.Spec
	layout Layout

	mu     sync.RWMutex
	bodies map[bodyKey]*body
}

type bodyKey struct {
	variant int
	records uint32
}

func newPreparedEncoder(spec record.Spec, layout Layout) *preparedEncoder {
	return &preparedEncoder{spec: spec, layout: layout, bodies: make(map[bodyKey]*body)}
}

// prepare encodes the bodies for batches of n records ahead of their use.
func (p *preparedEncoder) prepare(n int) {
	for v := range p.spec.Variants {
		p.body(bodyKey{v, uint32(n)})
	}
}

func (p *preparedEncoder) body(key bodyKey) *body {
	p.mu.RLock()
	b := p.bodies[key]
	p.mu.RUnlock()
	if b != nil {
		return b
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if b = p.bodies[key]; b == nil {
		b = newBody(p.spec, p.layout, key)
		p.bodies[key] = b
	}
	return b
}

func (p *preparedEncoder) encode(e *envelope, b record.Batch) (any, int) {
	body := p.body(bodyKey{p.spec.Variant(b.Sequence), b.Records})
	if len(body.wire) <= smallBodyBytes {
		return body.small(e, b)
	}
	buffer := body.Get(len(body.wire))
	body.patch(*buffer, b)
	head := envelopes.Get(0)
	*head = appendEnvelope((*head)[:0], e, b.Sequence)
	return &encoded{
		buffers: mem.BufferSlice{mem.NewBuffer(head, envelopes), mem.NewBuffer(buffer, body)},
		bytes:   len(*head) + len(*buffer),
	}, len(*head) + len(*buffer)
}

// smallBodyBytes is the size up to which a body is copied behind its envelope, because a second buffer costs more.
const smallBodyBytes = 4096

// small is the encoding of a small body, in one buffer.
func (t *body) small(e *envelope, b record.Batch) (any, int) {
	wire := envelopes.Get(0)
	*wire = appendEnvelope((*wire)[:0], e, b.Sequence)
	head := len(*wire)
	*wire = append(*wire, t.wire...)
	t.patch((*wire)[head:], b)
	return &encoded{buffers: mem.BufferSlice{mem.NewBuffer(wire, envelopes)}, bytes: len(*wire)}, len(*wire)
}

// minBufferBytes keeps buffers above the size below which gRPC does not recycle them.
const minBufferBytes = 2048

// envelopePool recycles the buffers of envelopes and of small messages.
type envelopePool struct{ pool sync.Pool }

var envelopes = &envelopePool{}

// Get implements mem.BufferPool.
func (p *envelopePool) Get(int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, minBufferBytes)
	return &b
}

// Put implements mem.BufferPool.
func (p *envelopePool) Put(b *[]byte) { p.pool.Put(b) }

// spot is where one record's identity stands in a body.
type spot struct{ id, timestamp, digits uint32 }

// body is the encoded records of one variant. It is also the pool of its own copies: a buffer that comes back needs only its
// identities written anew.
type body struct {
	wire  []byte
	spots []spot
	pool  sync.Pool
}

// Get implements mem.BufferPool: a copy of the body, with some batch's identities.
func (t *body) Get(int) *[]byte {
	if b, ok := t.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, len(t.wire), max(len(t.wire), minBufferBytes))
	copy(b, t.wire)
	return &b
}

// Put implements mem.BufferPool.
func (t *body) Put(b *[]byte) { t.pool.Put(b) }

// patch writes the identities of batch b into a copy of the body.
func (t *body) patch(buffer []byte, b record.Batch) {
	var text [record.BatchDigits + 2]byte
	record.AppendBatchDigits(text[:0], b.Producer, b.Sequence)
	// Fourteen digits are two words of eight that overlap.
	front := binary.LittleEndian.Uint64(text[:])
	back := binary.LittleEndian.Uint64(text[record.BatchDigits-8:])
	identity := b.Identity(0)
	high, low := identity.Words()
	for i, s := range t.spots {
		binary.BigEndian.PutUint64(buffer[s.id:], high)
		binary.BigEndian.PutUint64(buffer[s.id+8:], low|uint64(i))
		identity.Index = uint32(i)
		binary.LittleEndian.PutUint64(buffer[s.timestamp:], uint64(identity.TimestampUnixNano()))
		binary.LittleEndian.PutUint64(buffer[s.digits:], front)
		binary.LittleEndian.PutUint64(buffer[s.digits+record.BatchDigits-8:], back)
	}
}

func newBody(spec record.Spec, layout Layout, key bodyKey) *body {
	// Any batch of this variant serves as the model; sequence 0 stands for none.
	model := record.Batch{Sequence: uint64(key.variant), Records: key.records}
	t := &body{spots: make([]spot, key.records)}
	if layout == Rows {
		t.appendRows(spec, model)
	} else {
		t.appendColumns(spec, model)
	}
	return t
}

func (t *body) appendRows(spec record.Spec, b record.Batch) {
	var r record.Record
	var row, entry []byte
	for i := range t.spots {
		spec.Fill(&r, b, uint32(i))
		row = protowire.AppendTag(row[:0], 1, protowire.BytesType)
		row = protowire.AppendBytes(row, r.ID[:])
		s := spot{id: uint32(len(row) - len(r.ID))}
		row = protowire.AppendTag(row, 4, protowire.Fixed64Type)
		s.timestamp = uint32(len(row))
		row = protowire.AppendFixed64(row, uint64(r.TimestampUnixNano))
		row = protowire.AppendTag(row, 5, protowire.VarintType)
		row = protowire.AppendVarint(row, uint64(r.Version))
		row = protowire.AppendTag(row, 6, protowire.BytesType)
		row = protowire.AppendBytes(row, r.Payload)
		s.digits = uint32(len(row) - len(r.Payload) + record.IdentityOffset)
		for _, a := range r.Attributes {
			entry = protowire.AppendTag(entry[:0], 1, protowire.BytesType)
			entry = protowire.AppendString(entry, a.Key)
			entry = protowire.AppendTag(entry, 2, protowire.BytesType)
			entry = protowire.AppendString(entry, a.Value)
			row = protowire.AppendTag(row, 7, protowire.BytesType)
			row = protowire.AppendBytes(row, entry)
		}
		t.wire = protowire.AppendTag(t.wire, 8, protowire.BytesType)
		t.wire = protowire.AppendBytes(t.wire, row)
		start := uint32(len(t.wire) - len(row))
		t.spots[i] = spot{start + s.id, start + s.timestamp, start + s.digits}
	}
}

func (t *body) appendColumns(spec record.Spec, b record.Batch) {
	var ids, timestamps, versions, payloads, lengths []byte
	values := make([]struct{ bytes, lengths []byte }, spec.Attributes)
	keys := make([]string, spec.Attributes)
	var r record.Record
	for i := range t.spots {
		spec.Fill(&r, b, uint32(i))
		t.spots[i] = spot{uint32(len(ids)), uint32(len(timestamps)), uint32(len(payloads) + record.IdentityOffset)}
		ids = append(ids, r.ID[:]...)
		timestamps = protowire.AppendFixed64(timestamps, uint64(r.TimestampUnixNano))
		versions = protowire.AppendFixed32(versions, r.Version)
		payloads = append(payloads, r.Payload...)
		lengths = protowire.AppendFixed32(lengths, uint32(len(r.Payload)))
		for j, a := range r.Attributes {
			keys[j] = a.Key
			values[j].bytes = append(values[j].bytes, a.Value...)
			values[j].lengths = protowire.AppendFixed32(values[j].lengths, uint32(len(a.Value)))
		}
	}
	var columns []byte
	field := func(number protowire.Number, content []byte) (start uint32) {
		columns = protowire.AppendTag(columns, number, protowire.BytesType)
		columns = protowire.AppendBytes(columns, content)
		return uint32(len(columns) - len(content))
	}
	start := spot{id: field(1, ids), timestamp: field(2, timestamps)}
	field(3, versions)
	start.digits = field(4, payloads)
	field(5, lengths)
	for j, v := range values {
		column := protowire.AppendTag(nil, 1, protowire.BytesType)
		column = protowire.AppendString(column, keys[j])
		column = protowire.AppendTag(column, 2, protowire.BytesType)
		column = protowire.AppendBytes(column, v.bytes)
		column = protowire.AppendTag(column, 3, protowire.BytesType)
		column = protowire.AppendBytes(column, v.lengths)
		field(6, column)
	}
	t.wire = protowire.AppendTag(nil, 9, protowire.BytesType)
	t.wire = protowire.AppendBytes(t.wire, columns)
	offset := uint32(len(t.wire) - len(columns))
	for i := range t.spots {
		t.spots[i].id += offset + start.id
		t.spots[i].timestamp += offset + start.timestamp
		t.spots[i].digits += offset + start.digits
	}
}
