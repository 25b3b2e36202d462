package engine

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// decode returns what protobuf-go makes of a message in the codec's hands, and frees it.
func decode(t *testing.T, message any) *storagepb.WriteBatchRequest {
	t.Helper()
	buffers, err := newRawCodec().Marshal(message)
	require.NoError(t, err)
	wire := buffers.Materialize()
	buffers.Free()
	var r storagepb.WriteBatchRequest
	require.NoError(t, proto.Unmarshal(wire, &r))
	return &r
}

// TestClientsSendTheSameRecords: what the prepared and the live client send is what a message made for this batch alone would be, for
// any batch, also when buffers and messages are used again.
func TestClientsSendTheSameRecords(t *testing.T) {
	for name, spec := range map[string]record.Spec{
		"default":    {},
		"small":      {PayloadBytes: record.MinPayloadBytes, Variants: 1},
		"everything": {Seed: 5, PayloadBytes: 200, PayloadSpreadBytes: 120, Compressibility: 0.7, Attributes: 3, MediaType: "x/y"},
	} {
		for _, layout := range []Layout{Rows, Columns} {
			t.Run(name+"/"+string(layout), func(t *testing.T) {
				spec = spec.WithDefaults()
				prepared, live := newPreparedEncoder(spec, layout), newLiveEncoder(spec, layout)
				fresh := &liveEncoder{source: spec, layout: layout}
				prepared.prepare(100)
				for range 200 {
					e := &envelope{
						endpoint: "orders/ü", ackLevel: storagepb.AckLevel_ACK_LEVEL_COMMITTED,
						producerID: []byte("0123456789abcdef"), epoch: rand.Uint32N(3), contentType: spec.ContentType(),
					}
					b := record.Batch{
						Producer: uint16(rand.IntN(record.MaxProducers)), Sequence: 1 + rand.Uint64N(record.MaxSequence),
						UnixMilli: rand.Int64N(1 << 41), Records: []uint32{1, 7, 100}[rand.IntN(3)],
					}
					made, size := fresh.encode(e, b)
					want := decode(t, made)
					require.Equal(t, proto.Size(want), size)
					for name, encoder := range map[string]encoder{"prepared": prepared, "live": live} {
						got, size := encoder.encode(e, b)
						require.Positive(t, size)
						require.True(t, proto.Equal(want, decode(t, got)), "%s, batch %+v", name, b)
					}
				}
			})
		}
	}
}

func TestLiveRowsAreTheRecords(t *testing.T) {
	spec := record.Spec{Attributes: 2}.WithDefaults()
	b := record.Batch{Producer: 3, Sequence: 9, UnixMilli: 1_700_000_000_000, Records: 10}
	m, size := (&liveEncoder{source: spec, layout: Rows}).encode(&envelope{endpoint: "orders"}, b)
	r := decode(t, m)
	require.Equal(t, proto.Size(r), size)
	requireRecords(t, spec, b, r)
}

// requireRecords holds a request against the records of a batch, one by one.
func requireRecords(t *testing.T, source record.Source, b record.Batch, r *storagepb.WriteBatchRequest) {
	t.Helper()
	require.Equal(t, int(b.Records), size(r))
	var want record.Record
	payloadAt := 0
	for i := range int(b.Records) {
		source.Fill(&want, b, uint32(i))
		if c := r.GetColumns(); c != nil {
			require.Equal(t, want.ID[:], c.EventIds[16*i:16*i+16])
			require.Equal(t, want.TimestampUnixNano, c.TimestampsUnixNano[i])
			require.Equal(t, want.Version, c.Versions[i])
			end := payloadAt + int(c.PayloadLengths[i])
			require.Equal(t, want.Payload, c.Payloads[payloadAt:end])
			payloadAt = end
			continue
		}
		row := r.Records[i]
		require.Equal(t, want.ID[:], row.EventId)
		require.Equal(t, want.TimestampUnixNano, row.TimestampUnixNano)
		require.Equal(t, want.Version, row.Version)
		require.Equal(t, want.Payload, row.Payload)
		require.Len(t, row.Attributes, len(want.Attributes))
		for _, a := range want.Attributes {
			require.Equal(t, a.Value, row.Attributes[a.Key])
		}
	}
}

func TestEncodingAllocatesNothingPerRecord(t *testing.T) {
	spec := record.Spec{Variants: 1}.WithDefaults()
	for _, layout := range []Layout{Rows, Columns} {
		for name, encoder := range map[string]encoder{
			"prepared": newPreparedEncoder(spec, layout), "live": newLiveEncoder(spec, layout),
		} {
			e := &envelope{endpoint: "orders", producerID: make([]byte, 16)}
			sequence := uint64(0)
			allocations := testing.AllocsPerRun(500, func() {
				sequence++
				m, _ := encoder.encode(e, record.Batch{Sequence: sequence, Records: 1000})
				m.(*encoded).buffers.Free()
			})
			require.Less(t, allocations, 20.0, "of a batch of 1000 records, %s, in %s", name, layout)
		}
	}
}
