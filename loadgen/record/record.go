package record

// Record is the content of one record. Tenant and endpoint belong to the batch.
type Record struct {
	ID                ID
	TimestampUnixNano int64
	Version           uint32
	Payload           []byte // owned by the Record; reused by the next Fill into it
	Attributes        []Attribute
}

// Attribute is one label of a record.
type Attribute struct{ Key, Value string }

// Batch names a batch whose records are wanted.
type Batch struct {
	Producer  uint16
	Sequence  uint64
	UnixMilli int64
	Records   uint32
	Endpoint  uint32 // index into the run's endpoints
	Row       uint64 // replayed recordings only: the batch's first row among its endpoint's rows
}

// Identity returns the identity of record index.
func (b Batch) Identity(index uint32) Identity {
	return Identity{UnixMilli: b.UnixMilli, Producer: b.Producer, Sequence: b.Sequence, Index: index}
}

// Source gives the content of records. Its methods may be called concurrently.
type Source interface {
	// Fill sets r to record index of batch b. It reuses r's slices.
	Fill(r *Record, b Batch, index uint32)
	// ContentType is the media type of all payloads; empty means application/json.
	ContentType() string
}

// AppendAttributesJSON appends attributes as a JSON object in the given order. No attributes append nothing. Keys and
// values must not need escaping; those of Spec do not.
func AppendAttributesJSON(dst []byte, attributes []Attribute) []byte {
	if len(attributes) == 0 {
		return dst
	}
	for i, a := range attributes {
		if i == 0 {
			dst = append(dst, `{"`...)
		} else {
			dst = append(dst, `,"`...)
		}
		dst = append(dst, a.Key...)
		dst = append(dst, `":"`...)
		dst = append(dst, a.Value...)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}
