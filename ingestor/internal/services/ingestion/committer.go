package ingestion

import (
	"errors"
	"math"
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
//	          bounded      │ 1 gather    up to GatherBytes, tenants in turn          ▼
//	                       │ 2 dedupe    duplicate, fenced, out of order?          sinks
//	                       │ 3 append    wal.Append, Table.Stage                     │
//	                       │ 4 begin     wal.Begin: the log writes and syncs, while  │ events.Committed
//	                       │             1 to 3 fill the next group (or wal.Sync)    ▼
//	                       │ 5 complete  wal.Done, and 4 for the next group        waiters ──> Done
//	                       │ 6 insert    Table.CommitStaged, memtable.Insert
//	                       │ 7 answer    WALSynced ──> Done      Committed ──> waiters
//	                       └ 8 seal      when full, old, or memory is short
//
// Invariants: at most one group is under way and one is filling; the second is empty unless there is the first. Whoever is
// answered was appended before the Begin, or Sync, of a group whose outcome was nil.
type committer struct {
	service *Service
	log     Log
	table   *dedupe.Table
	set     *memtable.Set

	filling    group
	underWay   group
	completed  group         // durable, to be inserted and answered
	begun      bool          // there is a group under way
	previous   int           // batches in the last group
	rest       []*Submission // gathered, waiting for a group with room
	duplicates []*Submission // of batches that are not visible yet
	visible    wal.LSN       // everything up to it is in the memtables, or was before
	envelope   []byte        // scratch
	lastCommit time.Time
	marked     bool // nothing was committed since the last MarkDurable
	noSpace    bool // the last group was dropped
}

// group is the batches that one fdatasync covers.
type group struct {
	members []*Submission // in log order
	charge  int64         // of the members, in the queue
	began   time.Time
}

func (g *group) empty() bool { return len(g.members) == 0 }

func (g *group) reset() {
	clear(g.members)
	g.members, g.charge = g.members[:0], 0
}

func (c *committer) init(s *Service) {
	c.service, c.log, c.table, c.set = s, s.deps.Log, s.deps.Dedupe, memtable.NewSet()
	c.visible = c.log.DurableLSN()
	c.marked = true
}

// run is the committer's goroutine.
func (c *committer) run() {
	defer close(c.service.drained)
	ticker := time.NewTicker(housekeepingInterval)
	defer ticker.Stop()
	for {
		ready := c.service.queue.ready
		if c.full() {
			ready = nil // what waits does so in the queue, where tenants take turns
		}
		select {
		case <-ready:
			closed := c.gather(c.service.config.GatherBytes - c.filling.charge)
			c.begin()
			if closed {
				c.commitAll()
				c.finish()
				return
			}
		case err := <-c.log.Done():
			c.complete(err)
		case now := <-ticker.C:
			c.housekeep(now)
		case <-c.service.deps.Memory.Pressure():
			if c.set.Bytes() >= c.service.config.Generation.GenerationBytes/earlySealFraction {
				c.service.metrics.earlySeals.Inc()
				c.seal()
			}
		case done := <-c.service.seals:
			c.commitAll() // what was submitted before the call to Seal is to be part of it
			c.seal()
			close(done)
		}
	}
}

// full says whether the group that is filling takes no more.
func (c *committer) full() bool {
	return len(c.rest) > 0 || c.filling.charge >= c.service.config.GatherBytes
}

// commitAll commits all that is queued now.
func (c *committer) commitAll() {
	c.gather(math.MaxInt64)
	for c.begin(); c.begun; {
		c.complete(<-c.log.Done())
	}
}

// gather takes what is queued now, up to limit bytes, and appends it. closed says that nothing will follow it.
func (c *committer) gather(limit int64) (closed bool) {
	taken, closed := c.service.queue.gather(limit)
	for taken.n > 0 {
		c.rest = append(c.rest, taken.pop())
	}
	c.fill()
	return closed
}

// fill appends what was gathered, as far as the group that is filling has room for it.
func (c *committer) fill() {
	for i, s := range c.rest {
		if c.service.poisoned.Load() {
			c.answerUnknown(c.rest[i:])
			break
		}
		full, err := c.appendBatch(s)
		if err != nil {
			c.poison(err)
			c.answerUnknown(c.rest[i:])
			break
		}
		if full {
			kept := copy(c.rest, c.rest[i:])
			clear(c.rest[kept:])
			c.rest = c.rest[:kept]
			return
		}
	}
	clear(c.rest)
	c.rest = c.rest[:0]
	c.settleDuplicates()
}

// begin sees to it that a group is under way, if there is anything to commit.
func (c *committer) begin() {
	for !c.begun && !c.filling.empty() {
		if c.alone() {
			c.settle(c.commitAlone())
		} else {
			c.settle(c.start())
		}
	}
}

// alone says whether a batch has come by itself, as did the one before.
func (c *committer) alone() bool { return c.previous == 1 && len(c.filling.members) == 1 }

// commitAlone commits a batch without handing it to the log's goroutine and back, which takes time, above all on a busy machine: hardly
// anything is going to fill the next group meanwhile.
func (c *committer) commitAlone() error {
	c.close(&c.filling)
	if err := c.log.Sync(); err != nil {
		return err
	}
	c.completed, c.filling = c.filling, c.completed
	c.insert(&c.completed)
	return nil
}

// close fixes the members of a group.
func (c *committer) close(g *group) {
	g.began = time.Now()
	for _, s := range g.members {
		c.service.deps.Stages.Observe(telemetry.Queue, g.began.Sub(s.CheckedAt))
	}
}

// complete takes the outcome of the group under way. The next one starts before this one is answered, so that the disk need not
// wait for the CPU.
func (c *committer) complete(err error) {
	if c.service.poisoned.Load() {
		return // the group was answered when an append failed
	}
	if err != nil {
		c.poison(err)
		return
	}
	c.begun = false
	c.completed, c.underWay = c.underWay, c.completed
	err = c.start()
	c.insert(&c.completed)
	c.settle(err)
	c.begin()
}

// start hands the group that is filling to the log. An error means that it is not under way. REQUIRES: no group is.
func (c *committer) start() error {
	if c.filling.empty() {
		return nil
	}
	c.close(&c.filling)
	if err := c.log.Begin(); err != nil {
		return err
	}
	c.begun = true
	c.filling, c.underWay = c.underWay, c.filling
	return nil
}

// settle deals with the outcome of start, and fills the next group with what had no room in this one.
func (c *committer) settle(err error) {
	switch {
	case errors.Is(err, wal.ErrNoSpace):
		c.dropGroup()
	case err != nil:
		c.poison(err)
	}
	c.fill()
}

// appendBatch puts one batch into the group that is filling, or among the duplicates, or refuses it. full says that the group has no
// room for it; nothing was done then.
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
	case errors.Is(err, wal.ErrGroupFull) && !c.filling.empty():
		return true, nil
	case errors.Is(err, wal.ErrTooLarge) || errors.Is(err, wal.ErrGroupFull):
		c.refuse(s, refusal.New(refusal.TooLarge, "", "the batch has %d bytes, more than the log takes at once", len(s.Raw)))
		return false, nil
	case err != nil:
		return false, err
	}
	s.FirstLSN, s.LastLSN, s.AckedRecords = first, first+uint64(s.Records)-1, s.Records
	c.filling.members = append(c.filling.members, s)
	c.filling.charge += s.charge
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

// insert makes a group visible that is durable, and answers it.
func (c *committer) insert(g *group) {
	deps := &c.service.deps
	synced := time.Now()
	if c.noSpace {
		c.noSpace = false
		deps.Logger.Info("there is space for the log again")
	}
	bytes, stamps := 0, 0
	for _, s := range g.members {
		if s.HasProducer {
			stamps++
		}
	}
	c.table.CommitStaged(stamps)
	for _, s := range g.members {
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
	deps.Stages.Observe(telemetry.Commit, inserted.Sub(g.began))
	first, last := g.members[0].FirstLSN, g.members[len(g.members)-1].LastLSN
	c.service.metrics.committed(c, len(g.members), last-first+1, bytes)
	c.visible, c.lastCommit, c.marked, c.previous = last, inserted, false, len(g.members)
	for _, s := range g.members {
		c.acknowledge(s, inserted)
	}
	g.reset()
	c.settleDuplicates()
	deps.Events.Publish(events.Event{Kind: events.NewData, First: first, Last: last})
	if c.set.Full(c.service.config.Generation, inserted) {
		c.seal()
	}
}

// acknowledge answers a batch that is durable and visible, or lets it wait for the sinks.
func (c *committer) acknowledge(s *Submission, now time.Time) {
	if s.Level != Committed || !c.service.waiters.add(s) {
		c.service.answer(s, now)
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
	for _, s := range c.filling.members {
		c.refuse(s, c.refusedForSpace())
	}
	c.filling.reset()
	c.settleDuplicates() // before the positions are given out again
}

func (c *committer) refusedForSpace() *refusal.Error {
	return refusal.Retry(refusal.NoSpace, c.service.config.NoSpaceRetryDelay,
		"the disk has no room for the next log segment")
}

// settleDuplicates acknowledges the duplicates of what is visible. Without a group under way or filling, the others are those of
// a group that was dropped.
func (c *committer) settleDuplicates() {
	kept := c.duplicates[:0]
	for _, s := range c.duplicates {
		switch {
		case s.LastLSN <= c.visible:
			s.releaseBuffer()
			c.acknowledge(s, time.Now())
		case c.begun || !c.filling.empty():
			kept = append(kept, s)
		default:
			c.refuse(s, c.refusedForSpace())
		}
	}
	clear(c.duplicates[len(kept):])
	c.duplicates = kept
}

// refuse answers a batch that was not stored.
func (c *committer) refuse(s *Submission, err *refusal.Error) {
	s.fail(err)
	s.releaseBuffer()
	c.service.answer(s, time.Now())
}

// poison stops the service for good and answers everybody who has got as far as a group.
func (c *committer) poison(err error) {
	s := c.service
	s.poisoned.Store(true)
	s.metrics.poisoned.Set(1)
	s.deps.Logger.Error("the log has failed, no more batches are taken", "error", err)
	for _, waiting := range s.waiters.takeAll() {
		waiting.fail(outcomeUnknown())
		s.answer(waiting, time.Now())
	}
	c.begun = false
	for _, g := range []*group{&c.completed, &c.underWay, &c.filling} {
		c.answerUnknown(g.members)
		g.reset()
	}
	c.answerUnknown(c.duplicates)
	c.duplicates = nil
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
	if c.begun || c.marked || now.Sub(c.lastCommit) < c.service.config.IdleAfter {
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
