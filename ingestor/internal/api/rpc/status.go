package rpc

import (
	"context"
	"errors"
	"math"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// statusCodes says which gRPC code stands for which refusal. proto/storage/ingestion.proto promises the same.
var statusCodes = map[refusal.Code]codes.Code{
	refusal.Malformed:          codes.InvalidArgument,
	refusal.MissingField:       codes.InvalidArgument,
	refusal.InvalidField:       codes.InvalidArgument,
	refusal.TooLarge:           codes.InvalidArgument,
	refusal.EmptyBatch:         codes.InvalidArgument,
	refusal.WrongTenant:        codes.PermissionDenied,
	refusal.ForbiddenEndpoint:  codes.PermissionDenied,
	refusal.ProducerFenced:     codes.FailedPrecondition,
	refusal.SequenceOutOfOrder: codes.FailedPrecondition,
	refusal.Unsupported:        codes.FailedPrecondition,
	refusal.Overloaded:         codes.ResourceExhausted,
	refusal.NoSpace:            codes.ResourceExhausted,
	refusal.Unavailable:        codes.Unavailable,
	refusal.OutcomeUnknown:     codes.Unknown,
}

// StatusCode returns the gRPC code that stands for a refusal; Internal for a code that is not in the table.
func StatusCode(code refusal.Code) codes.Code {
	if c, ok := statusCodes[code]; ok {
		return c
	}
	return codes.Internal
}

// BatchError returns the refusal as the message that clients see. It shares e's EventID.
func BatchError(e *refusal.Error) *storagepb.BatchError {
	message := &storagepb.BatchError{
		Code:         storagepb.ErrorCode(e.Code),
		Message:      e.Message,
		EventId:      e.EventID,
		Field:        e.Field,
		RetryDelayMs: delayMillis(e.RetryDelay),
	}
	if e.RecordIndex >= 0 && int64(e.RecordIndex) <= math.MaxUint32 {
		index := uint32(e.RecordIndex)
		message.RecordIndex = &index
	}
	return message
}

// delayMillis rounds up, so that no positive delay becomes 0, which would mean "do not try again".
func delayMillis(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32(min((d+time.Millisecond-1)/time.Millisecond, math.MaxUint32))
}

// Status returns the refusal as a gRPC status with its details.
func Status(e *refusal.Error) *status.Status {
	plain := status.New(StatusCode(e.Code), e.Error())
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(BatchError(e))}
	if e.RetryDelay > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryDelay)})
	}
	detailed, err := plain.WithDetails(details...)
	if err != nil {
		return plain // a text that is not UTF-8 cannot be a detail; the code must arrive all the same
	}
	return detailed
}

// Error turns err into an error that gRPC reports with the right code: a refusal with its details, a context's error as
// CANCELLED or DEADLINE_EXCEEDED, a status as it is, anything else as INTERNAL. nil stays nil.
func Error(err error) error {
	var refused *refusal.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return Status(refused).Err()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Error(codes.Internal, err.Error())
}
