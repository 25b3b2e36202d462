package engine

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that rawCodec falls back to
	"google.golang.org/grpc/mem"
)

// encoded is a request that is already in wire form. gRPC takes over one reference to each buffer.
type encoded struct {
	buffers mem.BufferSlice
	bytes   int
}

// rawCodec sends encoded requests as they are; all other messages go through the ordinary codec, under its name.
type rawCodec struct{ encoding.CodecV2 }

func newRawCodec() rawCodec { return rawCodec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*encoded); ok {
		return e.buffers, nil
	}
	return c.CodecV2.Marshal(v)
}
