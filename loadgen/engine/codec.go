package engine

import (
	"errors"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that rawCodec falls back to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// encoded is a request that is already in wire form. gRPC takes over one reference to each buffer.
type encoded struct {
	buffers mem.BufferSlice
	bytes   int
}

// rawCodec sends encoded requests as they are and reads answers without building messages; everything else goes through the ordinary
// codec, under its name.
type rawCodec struct{ encoding.CodecV2 }

func newRawCodec() rawCodec { return rawCodec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*encoded); ok {
		return e.buffers, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	a, ok := v.(*answer)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if len(data) == 1 {
		return a.parse(data[0].ReadOnlyData())
	}
	return a.parse(data.Materialize())
}

// answer is a storage.WriteBatchResponse: an ack where err is nil. It may receive again.
type answer struct {
	batchID   uint64
	level     storagepb.AckLevel
	firstLSN  uint64
	records   uint32
	duplicate bool
	err       *storagepb.BatchError
}

var errNoOutcome = errors.New("engine: an answer that is neither ack nor error")

// parse reads an answer. Nothing of wire is kept.
func (a *answer) parse(wire []byte) error {
	*a = answer{}
	outcome := false
	err := eachField(wire, func(number protowire.Number, value uint64, content []byte) error {
		switch {
		case number == 1:
			a.batchID = value
		case number == 2 && content != nil:
			outcome = true
			return a.parseAck(content)
		case number == 3 && content != nil:
			outcome = true
			a.err = new(storagepb.BatchError)
			return proto.Unmarshal(content, a.err)
		}
		return nil
	})
	if err == nil && !outcome {
		err = errNoOutcome
	}
	return err
}

func (a *answer) parseAck(wire []byte) error {
	return eachField(wire, func(number protowire.Number, value uint64, _ []byte) error {
		switch number {
		case 1:
			a.level = storagepb.AckLevel(value)
		case 2:
			a.firstLSN = value
		case 4:
			a.records = uint32(value)
		case 5:
			a.duplicate = value != 0
		}
		return nil
	})
}

// eachField calls f for the fields of a message in order: with the value of a varint, or with the content, not nil, of what has a
// length. Others are skipped.
func eachField(wire []byte, f func(number protowire.Number, value uint64, content []byte) error) error {
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return protowire.ParseError(n)
		}
		wire = wire[n:]
		var value uint64
		var content []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(wire)
		case protowire.BytesType:
			content, n = protowire.ConsumeBytes(wire)
		default:
			n = protowire.ConsumeFieldValue(number, kind, wire)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if kind == protowire.VarintType || kind == protowire.BytesType {
			if err := f(number, value, content); err != nil {
				return err
			}
		}
		wire = wire[n:]
	}
	return nil
}
