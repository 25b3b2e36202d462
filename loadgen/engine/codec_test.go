package engine

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// FuzzAnswer holds the parser of answers against protobuf-go: what that one takes as an answer, the parser reads the same.
func FuzzAnswer(f *testing.F) {
	for _, r := range []*storagepb.WriteBatchResponse{
		{BatchId: 7, Outcome: &storagepb.WriteBatchResponse_Ack{Ack: &storagepb.Ack{
			Level: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, FirstLsn: 1 << 40, LastLsn: 1<<40 + 9, RecordCount: 10, Duplicate: true,
		}}},
		{Outcome: &storagepb.WriteBatchResponse_Ack{Ack: &storagepb.Ack{}}},
		{BatchId: 1, Outcome: &storagepb.WriteBatchResponse_Error{Error: &storagepb.BatchError{
			Code: storagepb.ErrorCode_ERROR_CODE_OVERLOADED, Message: "full", RecordIndex: proto.Uint32(3),
		}}},
		{BatchId: 1},
	} {
		wire, err := proto.Marshal(r)
		require.NoError(f, err)
		f.Add(wire)
	}
	f.Add([]byte{0x15, 0, 0, 0, 0, 0x12, 0})
	f.Fuzz(func(t *testing.T, wire []byte) {
		var want storagepb.WriteBatchResponse
		wantErr := proto.Unmarshal(wire, &want)
		var got answer
		err := got.parse(wire)
		if wantErr != nil || want.Outcome == nil {
			return // the parser need not see everything that is wrong
		}
		if ack := want.GetAck(); ack != nil && !repeated(wire) {
			require.NoError(t, err)
			require.Equal(t, answer{
				batchID: want.BatchId, level: ack.Level, firstLSN: ack.FirstLsn, records: ack.RecordCount, duplicate: ack.Duplicate,
			}, got)
		}
		if want.GetError() != nil && !repeated(wire) {
			require.NoError(t, err)
			require.Equal(t, want.BatchId, got.batchID)
			require.True(t, proto.Equal(want.GetError(), got.err))
		}
	})
}

// repeated says whether the outcome is there more than once: protobuf merges such, no server sends it.
func repeated(wire []byte) bool {
	outcomes := 0
	err := eachField(wire, func(number protowire.Number, _ uint64, content []byte) error {
		if (number == 2 || number == 3) && content != nil {
			outcomes++
		}
		return nil
	})
	return err != nil || outcomes > 1
}
