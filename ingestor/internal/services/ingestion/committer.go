package ingestion

import (
	"errors"
	"math"
	"runtime"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

const (
	// housekeepingInterval is how often the age of the memtables and idleness are looked at.
	housekeepingInterval = 50 * time.Millisecond
	// earlySealFraction: memory pressure seals the memtables only where they hold at least this fraction of a full
	// generation. Below that they are not what fills the memory, and sealing them would make many small generations.
	earlySealFraction = 8
)

// committer owns the end of the log, the dedupe table and the mutable memtables.
//
//	Submit ──> queue ──> committer ──────────────────────────────────────────> Generations (processor)
//	 (many)  by tenant,  (one)                                                       │
//	          bounded      │ 1 gather   up to GatherBytes, tenants in turn           ▼
//	                       │ 2 dedupe   duplicate, fenced, out of order?           sinks
//	                       │ 3 append   wal.Append, Table.Stage                      │
//	                       │ 4 sync     wal.Sync                                     │ events.Committed
//	                       │ 5 insert   Table.CommitStaged, memtable.Insert          ▼
//	                       │ 6 answer   WALSynced ──> Done      Committed ──> waiters ──> Done
//	                       └ 7 seal     when full, old, or memory is short
type committer struct {
	service *Service
	log     Log
	table   *dedupe.Table
	set     *memtable.Set

	gathered   []*Submission // taken from the queue
	appended   []*Submission // members of the current group, in log order
	duplicates []*Submission // to be answered after the current group
	envelope   []byte        // scratch
	lastCommit time.Time
	marked     bool // nothing was committed since the last MarkDurable
	noSpace    bool // the last group was dropped
}

func (c *committer) init(s *Service) {
	c.service, c.log, c.table, c.set = s, s.deps.Log, s.deps.Dedupe, memtable.NewSet()
	c.marked = true
}

// run is the committer's goroutine.
func (c *committer) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.service.drained)
	ticker := time.NewTicker(housekeepingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.service.queue.ready:
			closed := c.gather(c.service.config.GatherBytes)
			c.commit()
			if closed {
				c.finish()
				return
			}
		case now := <-ticker.C:
			c.housekeep(now)
		case <-c.service.deps.Memory.Pressure():
			if c.set.Bytes() >= c.service.config.Generation.GenerationBytes/earlySealFraction {
				c.service.metrics.earlySeals.Inc()
				c.seal()
			}
		case done := <-c.service.seals:
			c.gather(math.MaxInt64) // what was submitted before the call to Seal is to be part of it
			c.commit()
			c.seal()
			close(done)
		}
	}
}

// gather takes what is queued now, up to limit bytes. closed says that nothing will follow it.
func (c *committer) gather(limit int64) (closed bool) {
	taken, closed := c.service.queue.gather(limit)
	now := time.Now()
	c.gathered = c.gathered[:0]
	for taken.n > 0 {
		s := taken.pop()
		c.service.deps.Stages.Observe(telemetry.Queue, now.Sub(s.enqueuedAt))
		c.gathered = append(c.gathered, s)
	}
	return closed
}

// commit commits what was gathered, in as many groups as the log needs.
func (c *committer) commit() {
	for rest := c.gathered; len(rest) > 0; {
		if c.service.poisoned.Load() {
			c.answerUnknown(rest)
			break
		}
		n, err := c.commitGroup(rest)
		if err != nil {
			c.poison(err)
			c.answerUnknown(c.duplicates)
			c.answerUnknown(c.appended)
		}
		rest = rest[n:]
	}
	clear(c.gathered)
}

// commitGroup commits as many of batches as fit a group and returns their number. An error means that the log has
// failed; the members of appended and duplicates are then not answered.
func (c *committer) commitGroup(batches []*Submission) (int, error) {
	started := time.Now()
	c.appended, c.duplicates = c.appended[:0], c.duplicates[:0]
	taken := 0
	for _, s := range batches {
		full, err := c.appendBatch(s)
		if err != nil {
			c.appended = append(c.appended, s)
			return taken + 1, err
		}
		if full {
			break
		}
		taken++
	}
	if len(c.appended) > 0 {
		switch err := c.log.Sync(); {
		case errors.Is(err, wal.ErrNoSpace):
			c.dropGroup()
		case err != nil:
			return taken, err
		default:
			c.insertGroup(started)
		}
	}
	c.answerDuplicates()
	return taken, nil
}

// appendBatch puts one batch into the log's current group, or among the duplicates, or refuses it. full says that the
// group has no room for it; nothing was done then.
func (c *committer) appendBatch(s *Submission) (full bool, err error) {
	stamp := s.stamp()
	if s.HasProducer {
		verdict, firstLSN, records := c.table.Check(&stamp)
		if verdict != dedupe.Fresh {
			c.handleKnown(s, verdict, firstLSN, records)
			return false, nil
		}
	}
	c.envelope = batch.AppendEnvelope(c.envelope[:0], s.Tenant, s.ReceivedAt.UnixNano())
	first, err := c.log.Append(wal.Entry{Records: s.Records, Parts: [2][]byte{c.envelope, s.Raw}})
	switch {
	case errors.Is(err, wal.ErrGroupFull) && len(c.appended) > 0:
		return true, nil
	case errors.Is(err, wal.ErrTooLarge) || errors.Is(err, wal.ErrGroupFull):
		c.refuse(s, refusal.New(refusal.TooLarge, "", "the batch has %d bytes, more than the log takes at once", len(s.Raw)))
		return false, nil
	case err != nil:
		return false, err
	}
	s.FirstLSN, s.LastLSN, s.AckedRecords = first, first+uint64(s.Records)-1, s.Records
	c.appended = append(c.appended, s)
	if s.HasProducer {
		stamp.FirstLSN = first
		c.table.Stage(&stamp)
	}
	return false, nil
}

func (s *Submission) stamp() dedupe.Stamp {
	return dedupe.Stamp{
		Tenant: s.Tenant, Producer: s.Producer, Epoch: s.Epoch, Sequence: s.Sequence,
		FirstLSN: s.FirstLSN, Records: s.Records,
	}
}

// handleKnown deals with a batch that the dedupe table does not take for new.
func (c *committer) handleKnown(s *Submission, verdict dedupe.Verdict, firstLSN uint64, records uint32) {
	switch verdict {
	case dedupe.Duplicate:
		s.Duplicate = true
		s.FirstLSN, s.LastLSN, s.AckedRecords = firstLSN, firstLSN+uint64(records)-1, records
		c.duplicates = append(c.duplicates, s)
	case dedupe.Fenced:
		c.refuse(s, refusal.New(refusal.ProducerFenced, "producer_epoch",
			"epoch %d is fenced off: a higher one of this producer has written", s.Epoch))
	default:
		c.refuse(s, refusal.New(refusal.SequenceOutOfOrder, "sequence",
			"sequence %d is not above the producer's last one, nor among its last %d batches", s.Sequence, dedupe.WindowBatches))
	}
}

// insertGroup makes the synced group visible and answers it.
func (c *committer) insertGroup(started time.Time) {
	deps := &c.service.deps
	synced := time.Now()
	if c.noSpace {
		c.noSpace = false
		deps.Logger.Info("there is space for the log again")
	}
	bytes := 0
	c.table.CommitStaged()
	for _, s := range c.appended {
		var stamp *dedupe.Stamp
		if s.HasProducer {
			st := s.stamp()
			stamp = &st
		}
		c.set.Insert(s.Tenant, s.Endpoint, memtable.Batch{
			Buf: s.Buf, Raw: s.Raw, First: s.FirstLSN, Last: s.LastLSN,
			MinTimeUnixNano: s.MinTimeUnixNano, MaxTimeUnixNano: s.MaxTimeUnixNano,
		}, stamp, synced)
		bytes += len(s.Raw)
		s.takeBuffer()
	}
	inserted := time.Now()
	deps.Stages.Observe(telemetry.Memtable, inserted.Sub(synced))
	deps.Stages.Observe(telemetry.Commit, inserted.Sub(started))
	first, last := c.appended[0].FirstLSN, c.appended[len(c.appended)-1].LastLSN
	c.service.metrics.committed(c, bytes)
	c.lastCommit, c.marked = inserted, false
	for _, s := range c.appended {
		c.acknowledge(s)
	}
	deps.Events.Publish(events.Event{Kind: events.NewData, First: first, Last: last})
	if c.set.Full(c.service.config.Generation, inserted) {
		c.seal()
	}
}

// acknowledge answers a batch that is durable and visible, or lets it wait for the sinks.
func (c *committer) acknowledge(s *Submission) {
	if s.Level != Committed || !c.service.waiters.add(s) {
		c.service.answer(s)
	}
}

// dropGroup refuses a group that the log had no space for. The log has forgotten it.
func (c *committer) dropGroup() {
	c.table.DiscardStaged()
	c.service.metrics.noSpace.Inc()
	if !c.noSpace { // not for every group: the messages may go to the same disk
		c.service.deps.Logger.Warn("no space for the log, batches are refused")
	}
	c.noSpace = true
	for _, s := range c.appended {
		c.refuse(s, c.refusedForSpace())
	}
}

func (c *committer) refusedForSpace() *refusal.Error {
	return refusal.Retry(refusal.NoSpace, c.service.config.NoSpaceRetryDelay,
		"the disk has no room for the next log segment")
}

// answerDuplicates acknowledges the duplicates of what is durable now. The rest are duplicates of batches in a
// dropped group.
func (c *committer) answerDuplicates() {
	durable := c.log.DurableLSN()
	for _, s := range c.duplicates {
		if s.LastLSN > durable {
			c.refuse(s, c.refusedForSpace())
			continue
		}
		s.releaseBuffer()
		c.acknowledge(s)
	}
}

// refuse answers a batch that was not stored.
func (c *committer) refuse(s *Submission, err *refusal.Error) {
	s.fail(err)
	s.releaseBuffer()
	c.service.answer(s)
}

// poison stops the service for good.
func (c *committer) poison(err error) {
	s := c.service
	s.poisoned.Store(true)
	s.metrics.poisoned.Set(1)
	s.deps.Logger.Error("the log has failed, no more batches are taken", "error", err)
	for _, waiting := range s.waiters.takeAll() {
		waiting.fail(outcomeUnknown())
		s.answer(waiting)
	}
	if s.deps.OnFatal != nil {
		s.deps.OnFatal(err)
	}
}

func outcomeUnknown() *refusal.Error {
	return refusal.New(refusal.OutcomeUnknown, "", "the log failed: the batch may or may not be stored")
}

func (c *committer) answerUnknown(batches []*Submission) {
	for _, s := range batches {
		c.refuse(s, outcomeUnknown())
	}
}

// housekeep rotates old memtables and marks an idle log.
func (c *committer) housekeep(now time.Time) {
	if c.service.poisoned.Load() {
		return
	}
	if c.set.Full(c.service.config.Generation, now) {
		c.seal()
	}
	if c.marked || now.Sub(c.lastCommit) < c.service.config.IdleAfter {
		return
	}
	c.marked = true
	if err := c.log.MarkDurable(); err != nil && !errors.Is(err, wal.ErrNoSpace) {
		c.poison(err)
	}
}

// seal hands the memtables on. Without content, or after the log has failed, it does nothing.
func (c *committer) seal() {
	if c.set.Empty() || c.service.poisoned.Load() {
		return
	}
	g := c.set.Seal()
	first, last := g.First, g.Last
	c.service.metrics.generations.Inc()
	c.service.deps.Generations.Accept(g) // g is not ours any more
	c.service.deps.Events.Publish(events.Event{Kind: events.GenerationSealed, First: first, Last: last})
}

// finish is the committer's last act: what is in the memtables goes to the sinks, or after a failure is given up.
func (c *committer) finish() {
	c.seal()
	c.set.Discard()
}
