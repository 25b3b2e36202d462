package ingestion

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

const (
	// quantumBytes is what a tenant may have in a group before it is the next tenant's turn.
	quantumBytes = 64 << 10
	// maxIdle bounds the structs that are kept for reuse, of each kind.
	maxIdle = 1024
)

var (
	errQueueFull   = errors.New("the tenant's share of the commit queue is in use")
	errQueueClosed = errors.New("the commit queue is closed")
)

// fairQueue is the commit queue: a queue for each tenant, within one bound. Safe for concurrent use.
//
//	admit ──> room is reserved ──> push ──> the tenant's queue ──┐
//	  │  tenants wait in turn      or withdraw                   ├─ tenants in turn ──> gather ──> committer
//	  └ or: errQueueFull           ... another tenant's queue ───┘                      frees the room
//
// A batch has a charge: its bytes, but at least floor, so that one capacity bounds bytes and number. The charge is reserved
// from admit until gather or withdraw, and so covers the copying and checking in between.
//
// # Who is admitted
//
// A tenant is admitted while what it has reserved does not exceed what then stays free for others. One busy tenant gets half of the
// capacity, n of them get 1/(n+1) each, and as much as one of them has stays free for whoever comes next. A tenant that has nothing
// reserved is admitted wherever there is room.
//
// Whoever waits, waits behind its own tenant's earlier callers. Room that becomes free goes to the waiting tenants in turn. Where a
// tenant has nothing reserved and its batch is larger than what is free, nobody else is admitted until it fits.
//
// # Who is gathered
//
// Deficit round robin by charge: a tenant whose turn it is has credit of quantumBytes, and keeps what it could not use for its next
// turn. Its queue is first in, first out. When a batch is pushed to a queue that was empty, no more lies ahead of it than one turn of
// each other tenant: quantumBytes and one batch.
//
// # Invariants, whenever mu is free
//
//  1. reserved is the sum of the tenants' reserved, and at most capacity.
//  2. A tenant is in tenants while it has reserved something or somebody waits for it, and no longer.
//  3. A tenant is in turns while its queue is not empty, and in waiting while somebody waits for it.
//  4. Nobody waits who could be admitted: admissible is false for the first of each tenant's waiters, or holding is true.
//  5. ready holds a token while a batch is queued or the queue is closed, or the receiver of the last token has not gathered yet.
type fairQueue struct {
	capacity int64
	floor    int64
	// ready tells the one receiver to gather.
	ready chan struct{}

	mu       sync.Mutex
	closed   bool
	reserved int64
	batches  int    // queued
	waits    uint64 // calls of admit that had to wait
	tenants  map[string]*tenant
	turns    ring[tenant]
	waiting  ring[tenant]
	// holding: room is being kept for the first of waiting.
	holding bool

	idleTenants []*tenant
	idleWaiters []*waiter
}

// tenant is what one tenant has in the queue.
type tenant struct {
	name     string
	reserved int64 // charges of what is admitted and not yet gathered
	queued   chain
	credit   int64 // of this turn, or the next
	waiters  ring[waiter]
	turn     link[tenant] // in turns
	wait     link[tenant] // in waiting
}

// waiter is a call of admit that waits. It is sent one outcome, and is in no ring from then on.
type waiter struct {
	charge  int64
	outcome chan error // has room for the one
	place   link[waiter]
}

// chain is a queue of submissions, linked by their next.
type chain struct {
	first, last *Submission
	n           int
	charge      int64
}

func (c *chain) push(s *Submission) { c.append(chain{first: s, last: s, n: 1, charge: s.charge}) }

// append moves all of other behind what c has. REQUIRES: other is not empty.
func (c *chain) append(other chain) {
	if c.first == nil {
		c.first = other.first
	} else {
		c.last.next = other.first
	}
	c.last = other.last
	c.n += other.n
	c.charge += other.charge
}

// pop takes the first. REQUIRES: c is not empty.
func (c *chain) pop() *Submission {
	s := c.first
	c.first, s.next = s.next, nil
	c.n--
	c.charge -= s.charge
	return s
}

// newFairQueue returns a queue for charges of capacity in sum, which holds at most maxBatches batches.
func newFairQueue(capacity int64, maxBatches int) *fairQueue {
	return &fairQueue{
		capacity: capacity, floor: max(1, capacity/int64(maxBatches)),
		ready: make(chan struct{}, 1), tenants: make(map[string]*tenant),
	}
}

// admit reserves room for a batch of s.Tenant with the given number of bytes, which must be at most capacity. On nil the
// caller owes a push or a withdraw of s. Otherwise nothing was reserved: the error is errQueueFull where the room is not there and
// block is false, the context's where it ended the wait, or errQueueClosed.
func (q *fairQueue) admit(ctx context.Context, s *Submission, bytes int, block bool) error {
	charge := max(int64(bytes), q.floor)
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return errQueueClosed
	}
	t := q.tenantLocked(s.Tenant)
	if !q.holding && t.waiters.n == 0 && q.admissible(t, charge) {
		q.reserveLocked(t, charge)
		q.mu.Unlock()
		s.admitted, s.charge = t, charge
		return nil
	}
	if !block {
		q.dropIfIdleLocked(t)
		q.mu.Unlock()
		return errQueueFull
	}
	w := q.enqueueLocked(t, charge)
	q.grantLocked() // it may have to hold room for this one
	q.mu.Unlock()
	err := q.wait(ctx, t, w)
	if err == nil {
		s.admitted, s.charge = t, charge
	}
	return err
}

// wait returns w's outcome, or gives its place up when ctx ends.
func (q *fairQueue) wait(ctx context.Context, t *tenant, w *waiter) error {
	var err error
	select {
	case err = <-w.outcome:
	case <-ctx.Done():
		err = ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case w.place.linked():
		q.dequeueLocked(t, w)
		q.dropIfIdleLocked(t)
		q.grantLocked() // the one behind it may fit
	case err != nil && len(w.outcome) > 0: // the context has ended, but the outcome was quicker
		err = <-w.outcome
	}
	q.idleWaiters = keep(q.idleWaiters, w)
	return err
}

// withdraw gives up what s has reserved, in place of push.
func (q *fairQueue) withdraw(s *Submission) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.withdrawLocked(s)
}

func (q *fairQueue) withdrawLocked(s *Submission) {
	q.releaseLocked(s.admitted, s.charge)
	s.admitted = nil
	q.grantLocked()
}

// push queues s, whose room is reserved. Where the queue is closed it withdraws s and returns errQueueClosed.
func (q *fairQueue) push(s *Submission) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.withdrawLocked(s)
		return errQueueClosed
	}
	t := s.admitted
	s.admitted = nil
	if t.queued.n == 0 {
		t.credit = quantumBytes
		q.turns.pushBack(&t.turn)
	}
	t.queued.push(s)
	q.batches++
	if q.batches == 1 {
		q.signalLocked()
	}
	return nil
}

// gather takes batches with charges of up to limit in sum, or one where the first is larger; none where none is queued. Their room is
// free for others from now on. Batches of a tenant come in the order in which they were pushed. closed says that the queue is
// closed and has become empty.
func (q *fairQueue) gather(limit int64) (taken chain, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for full := false; !full && q.turns.n > 0; {
		full = q.takeTurnLocked(&taken, limit)
	}
	q.batches -= taken.n
	q.grantLocked()
	if q.batches > 0 || q.closed {
		q.signalLocked()
	}
	return taken, q.closed && q.batches == 0
}

// takeTurnLocked takes batches of the tenant whose turn it is, while its credit lasts. full says that the limit has ended it, and the
// turn goes on at the next time.
func (q *fairQueue) takeTurnLocked(taken *chain, limit int64) (full bool) {
	t := q.turns.front()
	before := taken.charge
	if q.turns.n == 1 {
		t.credit = max(t.credit, limit-before) // there is nobody to be fair to
	}
	full = t.take(taken, limit)
	if t.queued.n == 0 {
		q.turns.remove(&t.turn)
	} else if !full {
		t.credit += quantumBytes
		q.turns.rotate()
	}
	q.releaseLocked(t, taken.charge-before)
	return full
}

// take moves batches to dst until the queue is empty, the credit is used, or dst is full.
func (t *tenant) take(dst *chain, limit int64) (full bool) {
	if all := t.queued; all.charge <= min(t.credit, limit-dst.charge) {
		dst.append(all) // without a look at each
		t.queued = chain{}
		return false
	}
	for t.queued.n > 0 && t.queued.first.charge <= t.credit {
		charge := t.queued.first.charge
		if dst.n > 0 && dst.charge+charge > limit {
			return true
		}
		t.credit -= charge
		dst.push(t.queued.pop())
	}
	return false
}

// close makes admit and push refuse. Those that wait are refused too; what is queued stays to be gathered.
func (q *fairQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.holding = true, false
	for t := q.waiting.front(); t != nil; t = q.waiting.front() {
		w := t.waiters.front()
		q.dequeueLocked(t, w)
		q.dropIfIdleLocked(t)
		w.outcome <- errQueueClosed
	}
	q.signalLocked()
}

// admissible says whether t may reserve charge now.
func (q *fairQueue) admissible(t *tenant, charge int64) bool {
	free := q.capacity - q.reserved - charge
	return free >= 0 && (t.reserved == 0 || t.reserved+charge <= free)
}

func (q *fairQueue) reserveLocked(t *tenant, charge int64) {
	t.reserved += charge
	q.reserved += charge
}

func (q *fairQueue) releaseLocked(t *tenant, charge int64) {
	t.reserved -= charge
	q.reserved -= charge
	if t.reserved < 0 {
		panic(fmt.Sprintf("ingestion: tenant %q has given back more of the queue than it had", t.name))
	}
	q.dropIfIdleLocked(t)
}

// grantLocked admits those that wait, tenants in turn, as far as the room goes.
func (q *fairQueue) grantLocked() {
	q.holding = false
	for passed := 0; passed < q.waiting.n && q.reserved+q.floor <= q.capacity; {
		t := q.waiting.front()
		w := t.waiters.front()
		switch {
		case q.admissible(t, w.charge):
			q.dequeueLocked(t, w)
			q.reserveLocked(t, w.charge)
			w.outcome <- nil
			passed = 0
		case t.reserved == 0:
			q.holding = true
			return
		default: // it waits for its own batches to be gathered
			passed++
		}
		if t == q.waiting.front() {
			q.waiting.rotate()
		}
	}
}

// enqueueLocked makes a new waiter wait behind those of its tenant.
func (q *fairQueue) enqueueLocked(t *tenant, charge int64) *waiter {
	var w *waiter
	if last := len(q.idleWaiters) - 1; last >= 0 {
		w, q.idleWaiters = q.idleWaiters[last], q.idleWaiters[:last]
	} else {
		w = &waiter{outcome: make(chan error, 1)}
		w.place.owner = w
	}
	w.charge = charge
	t.waiters.pushBack(&w.place)
	if t.waiters.n == 1 {
		q.waiting.pushBack(&t.wait)
	}
	q.waits++
	return w
}

func (q *fairQueue) dequeueLocked(t *tenant, w *waiter) {
	t.waiters.remove(&w.place)
	if t.waiters.n == 0 {
		q.waiting.remove(&t.wait)
	}
}

// tenantLocked returns the tenant of that name, a new one where it has nothing in the queue.
func (q *fairQueue) tenantLocked(name string) *tenant {
	t := q.tenants[name]
	if t != nil {
		return t
	}
	if last := len(q.idleTenants) - 1; last >= 0 {
		t, q.idleTenants = q.idleTenants[last], q.idleTenants[:last]
	} else {
		t = new(tenant)
		t.turn.owner, t.wait.owner = t, t
	}
	t.name = name
	q.tenants[name] = t
	return t
}

// dropIfIdleLocked forgets a tenant that has nothing in the queue and nobody waiting.
func (q *fairQueue) dropIfIdleLocked(t *tenant) {
	if t.reserved == 0 && t.waiters.n == 0 {
		delete(q.tenants, t.name)
		t.name = ""
		q.idleTenants = keep(q.idleTenants, t)
	}
}

func keep[T any](idle []*T, v *T) []*T {
	if len(idle) < maxIdle {
		return append(idle, v)
	}
	return idle
}

func (q *fairQueue) signalLocked() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// queueState is a look at the queue for metrics.
type queueState struct {
	batches, tenants int
	reservedBytes    int64
	waits            uint64 // since the start
}

func (q *fairQueue) state() queueState {
	q.mu.Lock()
	defer q.mu.Unlock()
	return queueState{batches: q.batches, tenants: len(q.tenants), reservedBytes: q.reserved, waits: q.waits}
}
