package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func TestRefusalCodesEqualTheProtocols(t *testing.T) {
	want := map[refusal.Code]string{
		refusal.Malformed: "ERROR_CODE_MALFORMED", refusal.MissingField: "ERROR_CODE_MISSING_FIELD",
		refusal.InvalidField: "ERROR_CODE_INVALID_FIELD", refusal.TooLarge: "ERROR_CODE_TOO_LARGE",
		refusal.EmptyBatch: "ERROR_CODE_EMPTY_BATCH", refusal.WrongTenant: "ERROR_CODE_WRONG_TENANT",
		refusal.ForbiddenEndpoint: "ERROR_CODE_FORBIDDEN_ENDPOINT", refusal.ProducerFenced: "ERROR_CODE_PRODUCER_FENCED",
		refusal.SequenceOutOfOrder: "ERROR_CODE_SEQUENCE_OUT_OF_ORDER", refusal.Overloaded: "ERROR_CODE_OVERLOADED",
		refusal.NoSpace: "ERROR_CODE_NO_SPACE", refusal.OutcomeUnknown: "ERROR_CODE_OUTCOME_UNKNOWN",
		refusal.Unavailable: "ERROR_CODE_UNAVAILABLE", refusal.Unsupported: "ERROR_CODE_UNSUPPORTED",
	}
	for code, name := range want {
		require.Equal(t, name, storagepb.ErrorCode(code).String())
	}
	for number, name := range storagepb.ErrorCode_name {
		if number == 0 {
			continue
		}
		require.Contains(t, want, refusal.Code(number), name)
		require.NotEqual(t, codes.Internal, StatusCode(refusal.Code(number)), "%s has no gRPC code", name)
	}
}

func TestStatusCarriesTheDetails(t *testing.T) {
	refused := refusal.New(refusal.InvalidField, "event_id", "event_id has 3 bytes, not 16")
	refused.RecordIndex, refused.EventID = 0, []byte{1, 2, 3}
	s := Status(refused)
	require.Equal(t, codes.InvalidArgument, s.Code())
	require.Equal(t, "record 0 (event_id 010203): event_id has 3 bytes, not 16", s.Message())
	require.Len(t, s.Details(), 1)
	require.True(t, proto.Equal(&storagepb.BatchError{
		Code: storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, Message: "event_id has 3 bytes, not 16",
		RecordIndex: proto.Uint32(0), EventId: []byte{1, 2, 3}, Field: "event_id",
	}, s.Details()[0].(proto.Message)))
}

func TestStatusTellsWhenToTryAgain(t *testing.T) {
	s := Status(refusal.Retry(refusal.Overloaded, 1500*time.Microsecond, "full"))
	require.Equal(t, codes.ResourceExhausted, s.Code())
	require.Len(t, s.Details(), 2)
	batchError := s.Details()[0].(*storagepb.BatchError)
	require.Equal(t, uint32(2), batchError.GetRetryDelayMs(), "rounded up")
	require.Nil(t, batchError.RecordIndex)
	require.Equal(t, 1500*time.Microsecond, s.Details()[1].(*errdetails.RetryInfo).GetRetryDelay().AsDuration())
}

func TestStatusOfATextThatIsNotUTF8KeepsTheCode(t *testing.T) {
	require.Equal(t, codes.PermissionDenied, Status(refusal.New(refusal.WrongTenant, "tenant_id", "\xff")).Code())
}

func TestError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{nil, codes.OK},
		{refusal.New(refusal.Unsupported, "", "no"), codes.FailedPrecondition},
		{fmt.Errorf("wrapped: %w", refusal.New(refusal.Malformed, "", "no")), codes.InvalidArgument},
		{context.Canceled, codes.Canceled},
		{fmt.Errorf("wrapped: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{status.Error(codes.Unauthenticated, "who?"), codes.Unauthenticated},
		{errors.New("surprise"), codes.Internal},
	} {
		require.Equal(t, c.want, status.Code(Error(c.err)), "%v", c.err)
	}
}
