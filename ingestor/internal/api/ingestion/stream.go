package ingestion

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	ingest "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// stream is one WriteStream call.
//
// A pending goes round: free -> receiver -> submitter -> completed -> sender -> free. There are at most Config.Window of them,
// and each channel has room for all, so that only taking from a channel can wait.
type stream struct {
	api       *API
	grpc      grpc.ServerStream
	principal *auth.Principal

	// free starts with Window nils: a pending is made when it is first needed.
	free      chan *pending
	completed chan *pending
	// ended is sent why the receiver has ended: io.EOF when the client has closed its side.
	ended chan error
	// unanswered counts the batches received and not yet answered. The receiver adds, the sender subtracts.
	unanswered atomic.Int64
}

// writeStream answers one stream. It runs the sender.
func (a *API) writeStream(grpcStream grpc.ServerStream) error {
	principal, err := principalOf(grpcStream.Context())
	if err != nil {
		return err
	}
	s := &stream{
		api: a, grpc: grpcStream, principal: principal,
		free:      make(chan *pending, a.config.Window),
		completed: make(chan *pending, a.config.Window),
		ended:     make(chan error, 1),
	}
	for range a.config.Window {
		s.free <- nil
	}
	a.metrics.streams.Inc()
	defer a.metrics.streams.Dec()
	ctx := grpcStream.Context()
	a.receivers.Go(func() { s.ended <- s.receive(ctx) })
	return s.send(ctx)
}

// receive reads batches and hands them on until the stream ends, and returns why it ended.
func (s *stream) receive(ctx context.Context) error {
	message := new(rpc.RawMessage)
	for {
		var p *pending
		select {
		case p = <-s.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.grpc.RecvMsg(message); err != nil {
			return err
		}
		if p == nil {
			p = s.newPending()
		}
		s.unanswered.Add(1)
		err := s.api.submit(ctx, s.principal, message, p, true)
		var refused *refusal.Error
		switch {
		case err == nil:
		case errors.As(err, &refused):
			p.submission.Err = refused
			s.completed <- p
		default:
			return err
		}
	}
}

func (s *stream) newPending() *pending {
	p := new(pending)
	p.submission.Done = func(*ingest.Submission) { s.completed <- p }
	return p
}

// send answers batches as they complete. It returns when the receiver has ended, or the server drains, and every batch has
// been answered; or when the stream is broken.
func (s *stream) send(ctx context.Context) error {
	var (
		answer   ack
		over     bool // no further batch is to be waited for
		outcome  error
		ended    = s.ended
		draining = s.api.draining
	)
	for !over || s.unanswered.Load() > 0 {
		select {
		case p := <-s.completed:
			if err := s.answer(p, &answer); err != nil {
				return err
			}
		case err := <-ended:
			if !errors.Is(err, io.EOF) {
				return err // gRPC has ended the stream: no answer can be sent any more
			}
			// The client has sent all it wants to: no reason to report that the server drains.
			over, ended, draining, outcome = true, nil, nil, nil
		case <-draining:
			over, draining = true, nil
			outcome = refusal.Retry(refusal.Unavailable, s.api.config.RetryDelay, "the server is shutting down")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return outcome
}

// answer sends p's outcome and frees p. answer is room for the message.
func (s *stream) answer(p *pending, answer *ack) error {
	var err error
	if refused := p.answer(answer); refused != nil {
		s.api.metrics.countRefusal(refused.Code)
		err = s.grpc.SendMsg(&storagepb.WriteBatchResponse{
			BatchId: p.batchID,
			Outcome: &storagepb.WriteBatchResponse_Error{Error: rpc.BatchError(refused)},
		})
	} else {
		err = s.grpc.SendMsg(answer)
	}
	p.reset()
	s.unanswered.Add(-1)
	s.free <- p
	return err
}
