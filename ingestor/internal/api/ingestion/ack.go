package ingestion

import (
	"google.golang.org/protobuf/encoding/protowire"

	ingest "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
)

// ack is a storage.WriteBatchResponse with a positive outcome. It is an rpc.Encoder: streams of small batches answer too
// often for messages to be built.
type ack struct {
	batchID           uint64
	level             ingest.AckLevel
	firstLSN, lastLSN uint64
	records           uint32
	duplicate         bool
}

// Field numbers of WriteBatchResponse and Ack.
const (
	fieldResponseBatchID = 1
	fieldResponseAck     = 2

	fieldAckLevel     = 1
	fieldAckFirstLSN  = 2
	fieldAckLastLSN   = 3
	fieldAckRecords   = 4
	fieldAckDuplicate = 5
)

// uintFields lists the fields of Ack by their number less one; all are varints.
func (a *ack) uintFields() [5]uint64 {
	fields := [5]uint64{
		fieldAckLevel - 1:    uint64(a.level),
		fieldAckFirstLSN - 1: a.firstLSN,
		fieldAckLastLSN - 1:  a.lastLSN,
		fieldAckRecords - 1:  uint64(a.records),
	}
	if a.duplicate {
		fields[fieldAckDuplicate-1] = 1
	}
	return fields
}

func (a *ack) bodySize() int {
	size := 0
	for _, v := range a.uintFields() {
		if v != 0 {
			size += 1 + protowire.SizeVarint(v)
		}
	}
	return size
}

// EncodedSize implements rpc.Encoder.
func (a *ack) EncodedSize() int {
	size := 1 + protowire.SizeBytes(a.bodySize())
	if a.batchID != 0 {
		size += 1 + protowire.SizeVarint(a.batchID)
	}
	return size
}

// AppendEncoded implements rpc.Encoder.
func (a *ack) AppendEncoded(dst []byte) []byte {
	if a.batchID != 0 {
		dst = protowire.AppendTag(dst, fieldResponseBatchID, protowire.VarintType)
		dst = protowire.AppendVarint(dst, a.batchID)
	}
	dst = protowire.AppendTag(dst, fieldResponseAck, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(a.bodySize()))
	for i, v := range a.uintFields() {
		if v != 0 {
			dst = protowire.AppendTag(dst, protowire.Number(i+1), protowire.VarintType)
			dst = protowire.AppendVarint(dst, v)
		}
	}
	return dst
}
