// Package record makes the records that the load generator sends, and makes them again for the judge.
//
// A record is a pure function of (Spec, identity): the event id names the producer, the batch and the record's index, and
// everything else (timestamp, version, payload, attributes) follows from it and the seed. So nothing about a record has
// to be stored to tell later whether the system kept it: the judge reads an event id and computes what must stand
// beside it.
//
// Event ids are UUIDs of version 7. Their 74 free bits hold
//
//	producer (14 bits) | sequence (40 bits) | index in the batch (20 bits)
//
// so they are unique within a run, sort by time, and differ between runs by their milliseconds.
//
// Payloads are JSON and carry their identity in their text, so that a payload which ends up under another event id is
// seen. The rest of the payload is drawn from Spec.Variants repeating variants; that lets a load generator prepare batches
// once and patch only the identity.
//
// Nothing here starts goroutines. Values may be used concurrently unless a comment says otherwise.
package record
