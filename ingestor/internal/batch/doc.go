// Package batch reads the wire format of a storage.WriteBatchRequest without building messages.
//
// Validate judges a request in one pass over its bytes and allocates nothing when it accepts. What it accepted is stored as
// it came, in the log and in the memtable, and Rows decodes it at flush: straight into offsets, with the attributes as
// canonical JSON. An Envelope puts the tenant and the time of receipt, which the request does not hold, before the bytes.
//
// # Equal to protobuf-go
//
// Bytes that protobuf-go refuses are refused here, and what is accepted is read as protobuf-go reads it: the last one
// of a repeated scalar wins, columns that occur twice are merged, fields and wire types that are not known are skipped,
// groups included. Fuzz tests hold the two equal. The rules that are stricter than protobuf-go's, apart from those that the
// proto comments state:
//
//   - An array of RecordColumns or AttributeColumn comes in one piece: one packed field (what every protobuf library
//     writes), or a single unpacked element. Elements spread over several fields are refused.
//   - RecordColumns holds at most MaxAttributeColumns attributes with keys of at most MaxKeyBytes, and what they take when
//     written out for each record is bounded by MaxAttributeBytes: few bytes must not grow into many at flush.
//   - endpoint_id, content_type and attributes hold no NUL character: PostgreSQL cannot store it as text.
//     That holds for an attribute, too, that a later one of the same key replaces.
//
// Where an attribute occurs twice in one DataRecord the last one wins, as in any protobuf map.
//
// # Ownership
//
// Header and Rows alias the bytes they were read from. The caller keeps those alive and unchanged as long as it uses them.
// Nothing here starts goroutines. Functions are safe for concurrent use; a Rows belongs to one goroutine at a time.
package batch
