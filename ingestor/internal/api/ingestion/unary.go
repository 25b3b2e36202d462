package ingestion

import (
	"context"
	"errors"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	ingest "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
)

// writeBatch answers one unary call.
func (a *API) writeBatch(ctx context.Context, message *rpc.RawMessage) (*ack, error) {
	principal, err := principalOf(ctx)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	p := new(pending)
	p.submission.Done = func(*ingest.Submission) { close(done) }
	if err := a.submit(ctx, principal, message, p, false); err != nil {
		return nil, a.counted(err)
	}
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err() // the client is gone; the batch is committed all the same
	}
	response := new(ack)
	if refused := p.answer(response); refused != nil {
		return nil, a.counted(refused)
	}
	return response, nil
}

// counted returns err, and counts it where it is a refusal.
func (a *API) counted(err error) error {
	var refused *refusal.Error
	if errors.As(err, &refused) {
		a.metrics.countRefusal(refused.Code)
	}
	return err
}
