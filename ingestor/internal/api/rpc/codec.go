package rpc

import (
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// RawMessage receives a message's bytes without decoding them. Its holder must call Free once when done with the bytes.
// It is not safe for concurrent use.
type RawMessage struct {
	buffers mem.BufferSlice
}

// Len returns the message's size in bytes.
func (m *RawMessage) Len() int { return m.buffers.Len() }

// CopyTo copies the message to dst and returns the number of bytes copied: the smaller of Len and len(dst).
func (m *RawMessage) CopyTo(dst []byte) int { return m.buffers.CopyTo(dst) }

// Free gives the buffers back to gRPC; the message is empty afterwards and may receive again.
func (m *RawMessage) Free() {
	m.buffers.Free()
	m.buffers = nil
}

// Encoder is a response that writes its own wire format.
type Encoder interface {
	// EncodedSize returns the number of bytes that AppendEncoded adds.
	EncodedSize() int
	// AppendEncoded appends the message in protobuf's wire format to dst and returns the result.
	AppendEncoded(dst []byte) []byte
}

// Codec is the server's codec. The zero value is ready to use, by any number of goroutines.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// fallback is gRPC's own protobuf codec, which the import above registers.
var fallback = encoding.GetCodecV2(protocodec.Name)

// Name returns "proto": the codec is a drop-in for the standard one.
func (Codec) Name() string { return protocodec.Name }

// Unmarshal hands the bytes to a *RawMessage, which then owns a reference to each buffer. Anything else is decoded as usual.
// Receiving into a RawMessage never fails: judging the bytes is the handler's task, and a bad batch must not end a stream.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(*RawMessage)
	if !ok {
		return fallback.Unmarshal(data, v)
	}
	data.Ref() // gRPC frees its own references when this method returns
	message.buffers = data
	return nil
}

// Marshal encodes an Encoder into a buffer of gRPC's pool, where it is large enough to be pooled, and anything else as usual.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	encoder, ok := v.(Encoder)
	if !ok {
		return fallback.Marshal(v)
	}
	size := encoder.EncodedSize()
	if mem.IsBelowBufferPoolingThreshold(size) {
		return mem.BufferSlice{mem.SliceBuffer(encoder.AppendEncoded(make([]byte, 0, size)))}, nil
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(size)
	*buffer = encoder.AppendEncoded((*buffer)[:0])
	return mem.BufferSlice{mem.NewBuffer(buffer, pool)}, nil
}
