package batch

import "math"

// DefaultContentType is the content type of payloads whose batch names none.
const DefaultContentType = "application/json"

// Bounds that are not a matter of configuration.
const (
	// MaxNameBytes bounds endpoint_id and content_type.
	MaxNameBytes = 255
	// MaxAttributeColumns bounds the attribute keys of a RecordColumns.
	MaxAttributeColumns = 256
	// MaxKeyBytes bounds the key of an AttributeColumn.
	MaxKeyBytes = 255
	// MaxAttributeBytes bounds the keys and values of a RecordColumns, with a key counted for every record that has it.
	MaxAttributeBytes = 64 << 20
	// maxRawBytes keeps every offset within 32 bits.
	maxRawBytes = math.MaxInt32
)

// Limits are the bounds that the configuration sets. A zero or negative one is no bound.
type Limits struct {
	// MaxRecords bounds the records of a batch.
	MaxRecords int
	// MaxRecordBytes bounds one record: the size of its message among rows; the sum of its payload, attribute keys and
	// attribute values among columns.
	MaxRecordBytes int
	// MinTimeUnixNano is the earliest timestamp that is taken. Timestamps below 1 are never taken.
	MinTimeUnixNano int64
	// MaxTimeUnixNano is the latest timestamp that is taken.
	MaxTimeUnixNano int64
}

// normalised returns l with every absent bound replaced by one that no batch reaches.
func (l Limits) normalised() Limits {
	if l.MaxRecords <= 0 {
		l.MaxRecords = math.MaxInt
	}
	if l.MaxRecordBytes <= 0 {
		l.MaxRecordBytes = math.MaxInt
	}
	l.MinTimeUnixNano = max(l.MinTimeUnixNano, 1)
	if l.MaxTimeUnixNano <= 0 {
		l.MaxTimeUnixNano = math.MaxInt64
	}
	return l
}

// AckLevel is storage.AckLevel, with the same numbers.
type AckLevel int32

// The ack levels; proto/storage/common.proto says what each one promises.
const (
	AckUnspecified AckLevel = 0
	AckBuffered    AckLevel = 1
	AckWALSynced   AckLevel = 2
	AckCommitted   AckLevel = 3
)

// Layout says in which form a batch's records came.
type Layout uint8

// The layouts.
const (
	LayoutRows    Layout = 1
	LayoutColumns Layout = 2
)

// Header is what a batch says about itself and its records. Its slices alias the batch's bytes.
type Header struct {
	BatchID  uint64
	Endpoint []byte
	AckLevel AckLevel
	// Producer, Epoch and Sequence identify the batch for safe retries, where HasProducer is set.
	Producer    [16]byte
	HasProducer bool
	Epoch       uint32
	Sequence    uint64
	// ContentType is empty where the batch names none; DefaultContentType holds then.
	ContentType []byte
	Layout      Layout
	Records     uint32
	// MinTimeUnixNano and MaxTimeUnixNano are the bounds of the records' timestamps, inclusive.
	MinTimeUnixNano int64
	MaxTimeUnixNano int64
}
