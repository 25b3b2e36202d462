package rpc

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// countingPool counts the buffers that are out.
type countingPool struct{ out int }

func (p *countingPool) Get(n int) *[]byte {
	p.out++
	b := make([]byte, n)
	return &b
}

func (p *countingPool) Put(*[]byte) { p.out-- }

func TestRawMessageKeepsItsBuffersUntilFreed(t *testing.T) {
	pool := &countingPool{}
	want := bytes.Repeat([]byte("0123456789"), 1000)
	data := mem.BufferSlice{mem.Copy(want[:4000], pool), mem.Copy(want[4000:], pool)}
	var message RawMessage
	require.NoError(t, Codec{}.Unmarshal(data, &message))
	data.Free() // as gRPC does when Unmarshal has returned
	require.Equal(t, 2, pool.out)
	require.Equal(t, len(want), message.Len())
	got := make([]byte, len(want))
	require.Equal(t, len(want), message.CopyTo(got))
	require.Equal(t, want, got)
	message.Free()
	require.Zero(t, pool.out)
	message.Free()
	require.Zero(t, message.Len())
}

func TestOtherMessagesAreDecodedAsUsual(t *testing.T) {
	want := &storagepb.WriteBatchRequest{BatchId: 7, EndpointId: "orders"}
	data, err := Codec{}.Marshal(want)
	require.NoError(t, err)
	var got storagepb.WriteBatchRequest
	require.NoError(t, Codec{}.Unmarshal(data, &got))
	require.True(t, proto.Equal(want, &got))
	require.Error(t, Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xff")}, &got))
	_, err = Codec{}.Marshal("not a message")
	require.Error(t, err)
	require.Equal(t, "proto", Codec{}.Name())
}

// text is an Encoder.
type text string

func (s text) EncodedSize() int                { return len(s) }
func (s text) AppendEncoded(dst []byte) []byte { return append(dst, s...) }

func TestEncodersWriteThemselves(t *testing.T) {
	for _, want := range []string{"", "short", strings.Repeat("long", 5000)} {
		data, err := Codec{}.Marshal(text(want))
		require.NoError(t, err)
		require.Equal(t, want, string(data.Materialize()))
		data.Free()
	}
}
