package batch

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

const testTenant = "acme"

// uuid returns an event id that is unique among small i.
func uuid(i int) []byte {
	return binary.BigEndian.AppendUint64([]byte("\x01\x92\x34\x56\x78\x9a\x7b\xcd"), uint64(i))
}

// rowsRequest returns a batch of n records of about 145 bytes.
func rowsRequest(n int) *storagepb.WriteBatchRequest {
	request := &storagepb.WriteBatchRequest{BatchId: 7, EndpointId: "orders"}
	for i := range n {
		request.Records = append(request.Records, &storagepb.DataRecord{
			EventId: uuid(i), TimestampUnixNano: 1_700_000_000_000_000_000 + int64(i), Version: 3,
			Payload: make([]byte, 112),
		})
	}
	return request
}

// columnsRequest returns the content of rowsRequest(n) as columns.
func columnsRequest(n int) *storagepb.WriteBatchRequest {
	c := &storagepb.RecordColumns{}
	for _, r := range rowsRequest(n).GetRecords() {
		c.EventIds = append(c.EventIds, r.GetEventId()...)
		c.TimestampsUnixNano = append(c.TimestampsUnixNano, r.GetTimestampUnixNano())
		c.Versions = append(c.Versions, r.GetVersion())
		c.Payloads = append(c.Payloads, r.GetPayload()...)
		c.PayloadLengths = append(c.PayloadLengths, uint32(len(r.GetPayload())))
	}
	return &storagepb.WriteBatchRequest{BatchId: 7, EndpointId: "orders", Columns: c}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return raw
}
