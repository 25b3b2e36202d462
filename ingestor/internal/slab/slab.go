package slab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrTooLarge is returned for a request that the whole budget could not hold. Waiting would never end.
var ErrTooLarge = errors.New("buffer larger than the memory budget")

// Pool hands out buffers. Safe for concurrent use.
type Pool struct {
	budgetBytes int64
	// usedBytes is written under mu and read without it.
	usedBytes atomic.Int64
	pressure  chan struct{}
	metrics   *metrics

	mu sync.Mutex
	// free holds the buffers kept for reuse, by class; the last one in is the first out, being warm in the caches.
	free      [classCount][]*Buf
	freeBytes int64
	// spare holds Buf structs whose memory was given back.
	spare []*Buf
	// waiters is a queue in order of arrival. Invariant: not empty only while its first cannot be served.
	waiters []*waiter
	idle    []*waiter
}

// waiter is one Get that waits. Its channel has room for the one buffer it will be sent.
type waiter struct {
	class int
	n     int
	grant chan *Buf
}

// Buf is a buffer in use. It is not safe for concurrent changes of its content; Release may be called from any
// goroutine.
type Buf struct {
	pool   *Pool
	memory []byte // length is the class size
	n      int
	class  int
	inUse  atomic.Bool
}

// New returns a pool of at most budgetBytes, named "ingest" in its metrics. reg may be nil.
func New(budgetBytes int64, reg prometheus.Registerer) *Pool {
	return NewNamed("ingest", budgetBytes, reg)
}

// NewNamed returns a pool of at most budgetBytes whose metrics carry the label pool=name. reg may be nil.
func NewNamed(name string, budgetBytes int64, reg prometheus.Registerer) *Pool {
	p := &Pool{budgetBytes: budgetBytes, pressure: make(chan struct{}, 1)}
	p.metrics = newMetrics(name, p, reg)
	return p
}

// BudgetBytes is the limit that the pool was made with.
func (p *Pool) BudgetBytes() int64 { return p.budgetBytes }

// UsedBytes is the sum of the size classes of all buffers in use.
func (p *Pool) UsedBytes() int64 { return p.usedBytes.Load() }

// Pressure receives after a request could not be served at once. It holds one signal; there is one receiver, the owner
// of memory that can be freed.
func (p *Pool) Pressure() <-chan struct{} { return p.pressure }

// Get returns a buffer of n bytes with undefined content. It waits while the budget is exhausted, in order of
// arrival, until ctx ends. The caller owns the buffer and must Release it once.
func (p *Pool) Get(ctx context.Context, n int) (*Buf, error) {
	class, err := p.class(n)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	if b := p.takeLocked(class, n); b != nil {
		p.mu.Unlock()
		return b, nil
	}
	w := p.enqueueLocked(class, n)
	p.mu.Unlock()
	p.metrics.waits.Inc()
	p.signalPressure()

	select {
	case b := <-w.grant:
		p.recycle(w)
		return b, nil
	case <-ctx.Done():
		p.abandon(w)
		return nil, ctx.Err()
	}
}

// TryGet is Get that does not wait. It fails, too, while others wait.
func (p *Pool) TryGet(n int) (*Buf, bool) {
	class, err := p.class(n)
	if err != nil {
		return nil, false
	}
	p.mu.Lock()
	b := p.takeLocked(class, n)
	p.mu.Unlock()
	if b == nil {
		p.metrics.refusals.Inc()
		p.signalPressure()
	}
	return b, b != nil
}

func (p *Pool) class(n int) (int, error) {
	if n < 0 {
		panic(fmt.Sprintf("slab: buffer of %d bytes", n))
	}
	class, ok := classFor(n)
	if !ok || int64(classSizeBytes(class)) > p.budgetBytes {
		return 0, fmt.Errorf("%w: %d bytes, budget %d", ErrTooLarge, n, p.budgetBytes)
	}
	return class, nil
}

func (p *Pool) signalPressure() {
	select {
	case p.pressure <- struct{}{}:
	default:
	}
}

// takeLocked serves a request at once, or returns nil where others wait or the budget is exhausted.
func (p *Pool) takeLocked(class, n int) *Buf {
	if len(p.waiters) > 0 {
		return nil
	}
	return p.allocateLocked(class, n)
}

// allocateLocked returns a buffer if the budget has room for it, regardless of waiters.
func (p *Pool) allocateLocked(class, n int) *Buf {
	size := int64(classSizeBytes(class))
	used := p.usedBytes.Load()
	if used+size > p.budgetBytes {
		return nil
	}
	var b *Buf
	if list := p.free[class]; len(list) > 0 {
		b = list[len(list)-1]
		p.free[class] = list[:len(list)-1]
		p.freeBytes -= size
	} else {
		p.evictLocked(p.budgetBytes - used - size)
		b = p.newBufLocked()
		b.memory = make([]byte, size)
		b.class = class
		p.metrics.allocations.Inc()
	}
	p.usedBytes.Store(used + size)
	b.n = n
	b.inUse.Store(true)
	return b
}

func (p *Pool) newBufLocked() *Buf {
	if last := len(p.spare) - 1; last >= 0 {
		b := p.spare[last]
		p.spare = p.spare[:last]
		return b
	}
	return &Buf{pool: p}
}

// evictLocked gives free buffers back to the garbage collector, largest first, until no more than keepBytes are kept.
func (p *Pool) evictLocked(keepBytes int64) {
	for class := classCount - 1; class >= 0 && p.freeBytes > keepBytes; class-- {
		size := int64(classSizeBytes(class))
		for len(p.free[class]) > 0 && p.freeBytes > keepBytes {
			last := len(p.free[class]) - 1
			b := p.free[class][last]
			p.free[class] = p.free[class][:last]
			b.memory = nil
			p.spare = append(p.spare, b)
			p.freeBytes -= size
		}
	}
}

func (p *Pool) enqueueLocked(class, n int) *waiter {
	var w *waiter
	if last := len(p.idle) - 1; last >= 0 {
		w = p.idle[last]
		p.idle = p.idle[:last]
	} else {
		w = &waiter{grant: make(chan *Buf, 1)}
	}
	w.class, w.n = class, n
	p.waiters = append(p.waiters, w)
	return w
}

// serveLocked gives buffers to waiters, in order, as far as the budget goes.
func (p *Pool) serveLocked() {
	served := 0
	for _, w := range p.waiters {
		b := p.allocateLocked(w.class, w.n)
		if b == nil {
			break
		}
		w.grant <- b // never blocks: capacity 1, one grant a waiter
		served++
	}
	if served > 0 {
		p.waiters = append(p.waiters[:0], p.waiters[served:]...)
	}
}

// abandon takes w out of the queue. A buffer that it was granted meanwhile is released.
func (p *Pool) abandon(w *waiter) {
	p.mu.Lock()
	for i, queued := range p.waiters {
		if queued == w {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			break
		}
	}
	p.serveLocked() // the one behind w may fit
	p.mu.Unlock()
	select {
	case b := <-w.grant:
		b.Release()
	default:
	}
	p.recycle(w)
}

func (p *Pool) recycle(w *waiter) {
	p.mu.Lock()
	p.idle = append(p.idle, w)
	p.mu.Unlock()
}

// Trim gives all free buffers to the garbage collector.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.evictLocked(0)
}

// Bytes is the buffer's content, as long as was asked for. It must not be used after Release.
func (b *Buf) Bytes() []byte { return b.memory[:b.n] }

// SizeBytes is what the buffer takes from the budget: the size of its class.
func (b *Buf) SizeBytes() int { return len(b.memory) }

// Release gives the buffer back. A second Release panics: somebody else may own the memory by then.
func (b *Buf) Release() {
	if !b.inUse.CompareAndSwap(true, false) {
		panic("slab: buffer released twice")
	}
	p := b.pool
	size := int64(len(b.memory))
	p.mu.Lock()
	p.free[b.class] = append(p.free[b.class], b)
	p.freeBytes += size
	p.usedBytes.Add(-size)
	p.serveLocked()
	p.mu.Unlock()
}
