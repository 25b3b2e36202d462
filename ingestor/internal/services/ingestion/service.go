package ingestion

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
)

// committedEventsCapacity: events of one kind merge, so that a short queue loses nothing.
const committedEventsCapacity = 16

// Service takes submissions and commits them. Safe for concurrent use.
type Service struct {
	config  Config
	deps    Dependencies
	metrics *metrics

	queue    *fairQueue
	seals    chan chan struct{}
	poisoned atomic.Bool

	copies         sync.Pool // of *Submission, for Buffered ones
	onBufferedDone func(*Submission)

	waiters      waiters
	subscription *events.Subscription
	committer    committer
	drained      chan struct{}
	released     chan struct{}
}

// New starts a service.
func New(config Config, deps Dependencies) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	subscription, err := deps.Events.Subscribe(committedEventsCapacity, events.Committed)
	if err != nil {
		return nil, fmt.Errorf("subscribe to commits of the sinks: %w", err)
	}
	s := &Service{
		config:       config,
		deps:         deps,
		queue:        newFairQueue(config.QueueBytes, config.QueueBatches),
		seals:        make(chan chan struct{}),
		copies:       sync.Pool{New: func() any { return new(Submission) }},
		subscription: subscription,
		drained:      make(chan struct{}),
		released:     make(chan struct{}),
	}
	s.onBufferedDone = s.bufferedDone
	s.waiters.committedLSN = deps.CommittedLSN
	s.metrics = newMetrics(s, deps.Registerer)
	s.committer.init(s)
	go s.committer.run()
	go s.release()
	return s, nil
}

// Admit reserves room for a batch with the given number of bytes in the queue of submission.Tenant. Call it before the batch takes
// memory. Where the tenant's share is in use it waits until ctx ends, or refuses where submission.Block is not set. On nil the
// caller owes a Submit or a Withdraw. On an error (a *refusal.Error, or the context's) nothing was reserved.
func (s *Service) Admit(ctx context.Context, submission *Submission, bytes int) error {
	switch {
	case s.poisoned.Load():
		return s.refuse(refusedForFailure())
	case int64(bytes) > s.config.QueueBytes:
		return s.refuse(refusal.New(refusal.TooLarge, "", "the batch has %d bytes; the queue holds %d", bytes, s.config.QueueBytes))
	}
	err := s.queue.admit(ctx, submission, bytes, submission.Block)
	switch {
	case errors.Is(err, errQueueFull):
		return s.refuse(refusal.Retry(refusal.Overloaded, s.config.OverloadedRetryDelay, "%v", err))
	case errors.Is(err, errQueueClosed):
		return s.refuse(refusedForDrain())
	}
	return err
}

// Withdraw gives up what Admit has reserved.
func (s *Service) Withdraw(submission *Submission) { s.queue.withdraw(submission) }

// Submit hands an admitted submission to the committer. It does not wait. On nil the service owns s.Buf and calls s.Done
// exactly once. On an error, a *refusal.Error, nothing was taken: the buffer is still the caller's, Done is not called, and the
// reservation is given up.
//
// Submissions of one goroutine are committed in the order of its calls, as long as they are one tenant's.
func (s *Service) Submit(submission *Submission) error {
	submission.check()
	if submission.Level == Committed && s.waiters.len() >= s.config.MaxCommittedWaiters {
		s.Withdraw(submission)
		return s.refuse(refusal.Retry(refusal.Overloaded, s.config.OverloadedRetryDelay,
			"%d batches wait for the sinks to commit", s.config.MaxCommittedWaiters))
	}
	if submission.Level != Buffered {
		return s.enqueue(submission)
	}
	queued := s.copies.Get().(*Submission)
	*queued = *submission
	queued.Done = s.onBufferedDone
	submission.admitted = nil
	if err := s.enqueue(queued); err != nil {
		s.recycle(queued)
		return err
	}
	submission.takeBuffer()
	submission.AckedRecords = submission.Records
	s.answer(submission, time.Now())
	return nil
}

// enqueue puts the submission into the queue.
func (s *Service) enqueue(submission *Submission) error {
	if s.poisoned.Load() {
		s.Withdraw(submission)
		return s.refuse(refusedForFailure())
	}
	if err := s.queue.push(submission); err != nil {
		return s.refuse(refusedForDrain())
	}
	return nil
}

func refusedForFailure() *refusal.Error {
	return refusal.New(refusal.Unavailable, "", "the log has failed; the server is stopping")
}

func refusedForDrain() *refusal.Error {
	return refusal.New(refusal.Unavailable, "", "the server is stopping")
}

func (s *Service) refuse(err *refusal.Error) error {
	s.metrics.refused(err.Code)
	return err
}

// answer completes a submission at the time now. REQUIRES: its outcome is set and its buffer given away or released.
func (s *Service) answer(submission *Submission, now time.Time) {
	if submission.Err == nil {
		s.deps.Stages.Observe(telemetry.Ack, now.Sub(submission.ReceivedAt))
		s.metrics.acked(submission)
	} else {
		s.metrics.refused(submission.Err.Code)
	}
	submission.Done(submission)
}

// bufferedDone is the Done of copies: the caller was answered long ago.
func (s *Service) bufferedDone(submission *Submission) {
	if submission.Err != nil {
		s.metrics.bufferedLost.Add(float64(submission.Records))
	}
	s.recycle(submission)
}

func (s *Service) recycle(submission *Submission) {
	*submission = Submission{}
	s.copies.Put(submission)
}

// Seal turns all that was submitted before the call into sealed generations at once, so that it can be flushed. It
// returns when that was done.
func (s *Service) Seal(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case s.seals <- done:
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Drain refuses new submissions, commits the accepted ones, seals the memtables and ends the committer. Where ctx
// ends first it returns the context's error while the committer still works; call it again to wait on.
func (s *Service) Drain(ctx context.Context) error {
	s.queue.close()
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain the commit queue: %w", ctx.Err())
	}
}

// Close drains, waiting as long as the log takes, and answers those that still wait for the sinks with
// OutcomeUnknown. Call it after the processor has stopped.
func (s *Service) Close() error {
	s.queue.close()
	<-s.drained
	s.subscription.Close()
	<-s.released
	for _, submission := range s.waiters.takeAll() {
		submission.fail(refusal.New(refusal.OutcomeUnknown, "",
			"the batch is in the log, but the server stopped before all sinks had committed it"))
		s.answer(submission, time.Now())
	}
	return nil
}

// release is the goroutine that answers Committed waiters.
func (s *Service) release() {
	defer close(s.released)
	for e := range s.subscription.Events() {
		for _, submission := range s.waiters.takeUpTo(e.Last) {
			s.answer(submission, time.Now())
		}
	}
}
