package ingestion

import (
	"context"
	"errors"
)

// Service takes submissions and commits them.
type Service struct{}

// Submit hands s to the committer. On nil the service owns s.Buf and will call s.Done exactly once. On an error (a *refusal.Error,
// or the context's) nothing was taken: the buffer is still the caller's and Done is not called.
func (s *Service) Submit(_ context.Context, _ *Submission) error { return errors.ErrUnsupported }
