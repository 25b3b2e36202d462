package ingestion

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

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

	// queue holds what was accepted and not yet taken by the committer; queueBytes is held for each of its elements.
	queue      chan *Submission
	queueBytes *semaphore.Weighted
	seals      chan chan struct{}
	// submitters is held shared by every Submit while it may send to queue, so that Drain can close it.
	submitters sync.RWMutex
	draining   atomic.Bool
	poisoned   atomic.Bool

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
		queue:        make(chan *Submission, config.QueueBatches),
		queueBytes:   semaphore.NewWeighted(config.QueueBytes),
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

// Submit hands s to the committer. On nil the service owns s.Buf and calls s.Done exactly once. On an error (a
// *refusal.Error, or the context's) nothing was taken: the buffer is still the caller's and Done is not called. ctx
// ends the wait for room in the queue; it has no influence on what was accepted.
//
// Submissions of one goroutine are committed in the order of its calls.
func (s *Service) Submit(ctx context.Context, submission *Submission) error {
	submission.check()
	buffered := submission.Level == Buffered
	queued := submission
	if buffered {
		queued = s.copies.Get().(*Submission)
		*queued = *submission
		queued.Done = s.onBufferedDone
	}
	if err := s.accept(ctx, queued); err != nil {
		if buffered {
			s.recycle(queued)
		}
		return err
	}
	if buffered {
		submission.takeBuffer()
		submission.AckedRecords = submission.Records
		s.answer(submission)
	}
	return nil
}

// accept puts the submission into the queue.
func (s *Service) accept(ctx context.Context, submission *Submission) error {
	s.submitters.RLock()
	defer s.submitters.RUnlock()
	if err := s.admit(submission); err != nil {
		return s.refuse(err)
	}
	if err := s.reserve(ctx, submission); err != nil {
		return err
	}
	cost := submission.queueCost()
	if err := s.enqueue(ctx, submission); err != nil {
		s.queueBytes.Release(cost)
		return err
	}
	return nil
}

// admit refuses what cannot be taken whatever the room in the queue.
func (s *Service) admit(submission *Submission) *refusal.Error {
	switch {
	case s.poisoned.Load():
		return refusal.New(refusal.Unavailable, "", "the log has failed; the server is stopping")
	case s.draining.Load():
		return refusal.New(refusal.Unavailable, "", "the server is stopping")
	case submission.queueCost() > s.config.QueueBytes:
		return refusal.New(refusal.TooLarge, "", "the batch has %d bytes; the queue holds %d",
			len(submission.Raw), s.config.QueueBytes)
	case submission.Level == Committed && s.waiters.len() >= s.config.MaxCommittedWaiters:
		return refusal.Retry(refusal.Overloaded, s.config.OverloadedRetryDelay,
			"%d batches wait for the sinks to commit", s.config.MaxCommittedWaiters)
	}
	return nil
}

// reserve takes the submission's bytes from the queue's allowance.
func (s *Service) reserve(ctx context.Context, submission *Submission) error {
	if s.queueBytes.TryAcquire(submission.queueCost()) {
		return nil
	}
	if !submission.Block {
		return s.refuse(s.queueFull())
	}
	return s.queueBytes.Acquire(ctx, submission.queueCost())
}

// enqueue puts the submission into the queue. REQUIRES: submitters is held shared, so that the queue is open.
func (s *Service) enqueue(ctx context.Context, submission *Submission) error {
	submission.enqueuedAt = time.Now()
	select {
	case s.queue <- submission:
		return nil
	default:
	}
	if !submission.Block {
		return s.refuse(s.queueFull())
	}
	select {
	case s.queue <- submission:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Service) queueFull() *refusal.Error {
	return refusal.Retry(refusal.Overloaded, s.config.OverloadedRetryDelay, "the commit queue is full")
}

func (s *Service) refuse(err *refusal.Error) error {
	s.metrics.refused(err.Code)
	return err
}

// answer completes a submission. REQUIRES: its outcome is set and its buffer given away or released.
func (s *Service) answer(submission *Submission) {
	if submission.Err == nil {
		s.deps.Stages.Observe(telemetry.Ack, time.Since(submission.ReceivedAt))
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
	s.startDrain()
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain the commit queue: %w", ctx.Err())
	}
}

// startDrain closes the queue once no Submit can send to it any more.
func (s *Service) startDrain() {
	if !s.draining.CompareAndSwap(false, true) {
		return
	}
	go func() {
		s.submitters.Lock() // until the last Submit has left; the committer makes room for those that wait
		close(s.queue)
		s.submitters.Unlock()
	}()
}

// Close drains, waiting as long as the log takes, and answers those that still wait for the sinks with
// OutcomeUnknown. Call it after the processor has stopped.
func (s *Service) Close() error {
	s.startDrain()
	<-s.drained
	s.subscription.Close()
	<-s.released
	for _, submission := range s.waiters.takeAll() {
		submission.fail(refusal.New(refusal.OutcomeUnknown, "",
			"the batch is in the log, but the server stopped before all sinks had committed it"))
		s.answer(submission)
	}
	return nil
}

// release is the goroutine that answers Committed waiters.
func (s *Service) release() {
	defer close(s.released)
	for e := range s.subscription.Events() {
		for _, submission := range s.waiters.takeUpTo(e.Last) {
			s.answer(submission)
		}
	}
}
