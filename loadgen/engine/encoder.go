package engine

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// envelope is what a request holds beside its records.
type envelope struct {
	endpoint    string
	ackLevel    storagepb.AckLevel
	producerID  []byte
	epoch       uint32
	contentType string
}

// encoder makes the message for a batch. It may be used concurrently. The message is given to gRPC once; its size in bytes
// is that of the protobuf message.
type encoder interface {
	encode(e *envelope, b record.Batch) (message any, bytes int)
}

// liveEncoder fills protobuf-go messages and marshals every batch with them. With source alone it makes new messages for each batch.
// With variants it fills messages that were used before: all that differs from batch to batch is set anew.
type liveEncoder struct {
	source   record.Source
	layout   Layout
	variants *variants // nil: the batches do not repeat
	wires    wirePool
}

// newLiveEncoder returns an encoder for synthetic records.
func newLiveEncoder(spec record.Spec, layout Layout) *liveEncoder {
	return &liveEncoder{source: spec, layout: layout, variants: &variants{spec: spec, free: make(map[bodyKey][]*storagepb.WriteBatchRequest)}}
}

func (l *liveEncoder) encode(e *envelope, b record.Batch) (any, int) {
	m := l.message(b)
	m.BatchId, m.Sequence = b.Sequence, b.Sequence
	m.EndpointId, m.AckLevel, m.ContentType = e.endpoint, e.ackLevel, e.contentType
	m.ProducerId, m.ProducerEpoch = e.producerID, e.epoch
	size := proto.Size(m)
	wire := l.wires.Get(size)
	// The size is cached in the message. A message that is built here has valid UTF-8 and nothing required, so this cannot fail.
	marshalled, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*wire)[:0], m)
	if err != nil {
		panic(fmt.Sprintf("engine: marshal a batch: %v", err))
	}
	*wire = marshalled
	if l.variants != nil {
		l.variants.giveBack(m, b)
	}
	return &encoded{buffers: mem.BufferSlice{mem.NewBuffer(wire, &l.wires)}, bytes: size}, size
}

// message returns the batch's records as a message.
func (l *liveEncoder) message(b record.Batch) *storagepb.WriteBatchRequest {
	if l.variants != nil {
		if m := l.variants.take(b); m != nil {
			rename(m, b)
			return m
		}
	}
	if l.layout == Rows {
		return &storagepb.WriteBatchRequest{Records: l.rows(b)}
	}
	return &storagepb.WriteBatchRequest{Columns: l.columns(b)}
}

// variants keeps the messages of synthetic batches for their next use, by what repeats. It holds as many of each as were ever used at
// the same time.
type variants struct {
	spec record.Spec

	mu   sync.Mutex
	free map[bodyKey][]*storagepb.WriteBatchRequest
}

func (v *variants) key(b record.Batch) bodyKey { return bodyKey{v.spec.Variant(b.Sequence), b.Records} }

// take returns a message of b's variant and size that has another batch's identities, or nil.
func (v *variants) take(b record.Batch) *storagepb.WriteBatchRequest {
	v.mu.Lock()
	defer v.mu.Unlock()
	free := v.free[v.key(b)]
	if len(free) == 0 {
		return nil
	}
	v.free[v.key(b)] = free[:len(free)-1]
	return free[len(free)-1]
}

func (v *variants) giveBack(m *storagepb.WriteBatchRequest, b record.Batch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.free[v.key(b)] = append(v.free[v.key(b)], m)
}

// rename gives the records of m the identities of batch b: event ids, timestamps, and the digits in the payloads.
func rename(m *storagepb.WriteBatchRequest, b record.Batch) {
	var text [record.BatchDigits]byte
	digits := record.AppendBatchDigits(text[:0], b.Producer, b.Sequence)
	for i, r := range m.Records {
		identity := b.Identity(uint32(i))
		identity.Put(r.EventId)
		r.TimestampUnixNano = identity.TimestampUnixNano()
		copy(r.Payload[record.IdentityOffset:], digits)
	}
	c := m.Columns
	if c == nil {
		return
	}
	payload := c.Payloads
	for i, length := range c.PayloadLengths {
		identity := b.Identity(uint32(i))
		identity.Put(c.EventIds[i*len(record.ID{}):])
		c.TimestampsUnixNano[i] = identity.TimestampUnixNano()
		copy(payload[record.IdentityOffset:], digits)
		payload = payload[length:]
	}
}

// wirePool recycles the buffers of marshalled messages.
type wirePool struct{ pool sync.Pool }

// Get implements mem.BufferPool. Its bytes are those of an earlier use.
func (p *wirePool) Get(size int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok && cap(*b) >= size {
		*b = (*b)[:size]
		return b
	}
	b := make([]byte, size, max(size, minBufferBytes))
	return &b
}

// Put implements mem.BufferPool.
func (p *wirePool) Put(b *[]byte) { p.pool.Put(b) }

func (l *liveEncoder) rows(b record.Batch) []*storagepb.DataRecord {
	rows := make([]*storagepb.DataRecord, b.Records)
	for i := range rows {
		var r record.Record
		l.source.Fill(&r, b, uint32(i))
		rows[i] = &storagepb.DataRecord{
			EventId:           r.ID[:],
			TimestampUnixNano: r.TimestampUnixNano,
			Version:           r.Version,
			Payload:           r.Payload,
		}
		if len(r.Attributes) > 0 {
			rows[i].Attributes = make(map[string]string, len(r.Attributes))
			for _, a := range r.Attributes {
				rows[i].Attributes[a.Key] = a.Value
			}
		}
	}
	return rows
}

func (l *liveEncoder) columns(b record.Batch) *storagepb.RecordColumns {
	n := int(b.Records)
	c := &storagepb.RecordColumns{
		EventIds:           make([]byte, 0, 16*n),
		TimestampsUnixNano: make([]int64, 0, n),
		Versions:           make([]uint32, 0, n),
		PayloadLengths:     make([]uint32, 0, n),
	}
	columns := make(map[string]*storagepb.AttributeColumn)
	var r record.Record
	for i := range n {
		l.source.Fill(&r, b, uint32(i))
		c.EventIds = append(c.EventIds, r.ID[:]...)
		c.TimestampsUnixNano = append(c.TimestampsUnixNano, r.TimestampUnixNano)
		c.Versions = append(c.Versions, r.Version)
		c.Payloads = append(c.Payloads, r.Payload...)
		c.PayloadLengths = append(c.PayloadLengths, uint32(len(r.Payload)))
		for _, a := range r.Attributes {
			column := columns[a.Key]
			if column == nil {
				column = &storagepb.AttributeColumn{Key: a.Key, ValueLengths: make([]uint32, n)}
				columns[a.Key] = column
				c.Attributes = append(c.Attributes, column)
			}
			column.Values = append(column.Values, a.Value...)
			column.ValueLengths[i] = uint32(len(a.Value))
		}
	}
	return c
}

// appendEnvelope appends the fields of WriteBatchRequest that stand before its records.
func appendEnvelope(dst []byte, e *envelope, sequence uint64) []byte {
	dst = protowire.AppendTag(dst, 1, protowire.VarintType)
	dst = protowire.AppendVarint(dst, sequence)
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendString(dst, e.endpoint)
	if e.ackLevel != 0 {
		dst = protowire.AppendTag(dst, 3, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(e.ackLevel))
	}
	dst = protowire.AppendTag(dst, 4, protowire.BytesType)
	dst = protowire.AppendBytes(dst, e.producerID)
	if e.epoch != 0 {
		dst = protowire.AppendTag(dst, 5, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(e.epoch))
	}
	dst = protowire.AppendTag(dst, 6, protowire.VarintType)
	dst = protowire.AppendVarint(dst, sequence)
	if e.contentType != "" {
		dst = protowire.AppendTag(dst, 7, protowire.BytesType)
		dst = protowire.AppendString(dst, e.contentType)
	}
	return dst
}
