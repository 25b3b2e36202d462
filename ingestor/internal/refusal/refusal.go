// Package refusal holds the errors that a client may see: why a batch was not taken, which record is to blame and
// whether trying again can help. The api packages map them to gRPC statuses; nothing below them knows gRPC.
package refusal

import (
	"fmt"
	"time"
)

// Code is the machine-readable reason. Its values equal storage.ErrorCode in proto/storage/common.proto, where each one is
// explained; a test in the api package holds the two equal.
type Code int32

// The reasons for a refusal.
const (
	Malformed          Code = 1
	MissingField       Code = 2
	InvalidField       Code = 3
	TooLarge           Code = 4
	EmptyBatch         Code = 5
	WrongTenant        Code = 6
	ForbiddenEndpoint  Code = 7
	ProducerFenced     Code = 8
	SequenceOutOfOrder Code = 9
	Overloaded         Code = 10
	NoSpace            Code = 11
	OutcomeUnknown     Code = 12
	Unavailable        Code = 13
	Unsupported        Code = 14
)

// NoRecord is the RecordIndex of an error for which no single record is to blame.
const NoRecord = -1

// Error is a refusal. It is immutable once returned.
type Error struct {
	Code    Code
	Message string
	// RecordIndex counts from 0; NoRecord where no single record is to blame.
	RecordIndex int
	// EventID is a copy of the record's event id as sent, cut to 16 bytes; nil where unknown.
	EventID []byte
	// Field is the offending field's name in the proto files; empty where none is to blame.
	Field string
	// RetryDelay is how long the client should wait before it tries again; 0 where trying again does not help.
	RetryDelay time.Duration
}

// New returns a refusal that blames no single record.
func New(code Code, field, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), RecordIndex: NoRecord, Field: field}
}

// Retry returns a refusal that may be tried again after delay.
func Retry(code Code, delay time.Duration, format string, args ...any) *Error {
	e := New(code, "", format, args...)
	e.RetryDelay = delay
	return e
}

func (e *Error) Error() string {
	if e.RecordIndex == NoRecord {
		return e.Message
	}
	return fmt.Sprintf("record %d (event_id %x): %s", e.RecordIndex, e.EventID, e.Message)
}
