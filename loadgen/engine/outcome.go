package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Pauses before another attempt.
const (
	minPause = 20 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// pauseAfter grows with the number of attempts that failed in a row.
func pauseAfter(failures int) time.Duration {
	return min(minPause<<min(failures, 10), maxPause)
}

// ErrGaveUp says that outcomes could not be learned within Config.RetryFor; they are counted as unknown.
var ErrGaveUp = errors.New("engine: no answer within the time for retries")

// final reports whether a stream or call that ended with err is not worth another attempt.
func final(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.InvalidArgument:
		return !errors.Is(err, io.EOF)
	}
	return false
}

// batchError returns the BatchError in the details of a gRPC status, or nil.
func batchError(err error) *storagepb.BatchError {
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*storagepb.BatchError); ok {
			return e
		}
	}
	return nil
}

// verdict is what an error answer means for its batch.
type verdict int

const (
	refuse  verdict = iota // final: not stored
	retry                  // not stored by this attempt; send again
	unsure                 // may be stored; send again
	forsake                // final, but an earlier attempt may have stored it
)

// judge interprets an error answer. maybeStored says that an earlier attempt may have stored the batch.
func judge(code storagepb.ErrorCode, maybeStored bool) verdict {
	switch code {
	case storagepb.ErrorCode_ERROR_CODE_OUTCOME_UNKNOWN:
		return unsure
	case storagepb.ErrorCode_ERROR_CODE_UNAVAILABLE:
		return retry
	case storagepb.ErrorCode_ERROR_CODE_OVERLOADED, storagepb.ErrorCode_ERROR_CODE_NO_SPACE:
		if maybeStored {
			return retry
		}
		return refuse
	}
	if maybeStored {
		return forsake
	}
	return refuse
}

// codeName is the name of an error code in figures, such as "OVERLOADED".
func codeName(code storagepb.ErrorCode) string {
	const prefix = "ERROR_CODE_"
	return code.String()[min(len(prefix), len(code.String())):]
}

// book writes a batch's life into the ledger, if there is one.
type book struct{ ledger *ledger.Writer }

func (b book) sent(s ledger.Sent) error {
	if b.ledger == nil {
		return nil
	}
	return b.ledger.Sent(s)
}

func (b book) acked(s *ledger.Sent, level storagepb.AckLevel, firstLSN uint64, duplicate bool) error {
	if b.ledger == nil {
		return nil
	}
	return b.ledger.Acked(ledger.Acked{
		Producer: s.Producer, Epoch: s.Epoch, Sequence: s.Sequence, Records: s.Records,
		Level: byte(level), FirstLSN: firstLSN, Duplicate: duplicate,
	})
}

func (b book) refused(s *ledger.Sent, code storagepb.ErrorCode) error {
	if b.ledger == nil {
		return nil
	}
	return b.ledger.Refused(ledger.Refused{
		Producer: s.Producer, Epoch: s.Epoch, Sequence: s.Sequence, Code: byte(code),
	})
}

// turnedDown notes a negative answer to one attempt, after which the outcome is still unknown.
func (b book) turnedDown(s *ledger.Sent, code storagepb.ErrorCode) error {
	if b.ledger == nil {
		return nil
	}
	return b.ledger.TurnedDown(ledger.Refused{
		Producer: s.Producer, Epoch: s.Epoch, Sequence: s.Sequence, Code: byte(code),
	})
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error { return coarseSleep(ctx, d) }
