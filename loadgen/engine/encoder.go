package engine

import (
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

// liveEncoder builds protobuf-go messages, new ones for each batch, as an ordinary program would.
type liveEncoder struct {
	source record.Source
	layout Layout
}

func (l *liveEncoder) encode(e *envelope, b record.Batch) (any, int) {
	m := &storagepb.WriteBatchRequest{
		BatchId:       b.Sequence,
		EndpointId:    e.endpoint,
		AckLevel:      e.ackLevel,
		ProducerId:    e.producerID,
		ProducerEpoch: e.epoch,
		Sequence:      b.Sequence,
		ContentType:   e.contentType,
	}
	if l.layout == Rows {
		m.Records = l.rows(b)
	} else {
		m.Columns = l.columns(b)
	}
	return m, proto.Size(m)
}

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
