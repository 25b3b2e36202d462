package events

import (
	"errors"
	"fmt"
	"sync"
)

// ErrClosed is returned by Subscribe on a closed bus.
var ErrClosed = errors.New("event bus is closed")

// Bus delivers every event to every subscription of its kind. Safe for concurrent use; events of one publisher keep
// their order.
type Bus struct {
	mu            sync.RWMutex
	subscriptions []*Subscription
	closed        bool
}

// NewBus returns a bus without subscriptions.
func NewBus() *Bus { return &Bus{} }

// Subscribe returns a subscription to the given kinds, with a queue of at least one and about capacity events.
func (b *Bus) Subscribe(capacity int, kinds ...Kind) (*Subscription, error) {
	if capacity < 1 || len(kinds) == 0 {
		return nil, fmt.Errorf("subscription with capacity %d to %d kinds of events", capacity, len(kinds))
	}
	s := &Subscription{
		bus:      b,
		capacity: capacity,
		wake:     make(chan struct{}, 1),
		out:      make(chan Event),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	for _, k := range kinds {
		s.wanted[k] = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.subscriptions = append(b.subscriptions, s)
	go s.deliver()
	return s, nil
}

// Publish hands e to all subscriptions of its kind. It does not block. On a closed bus it does nothing.
func (b *Bus) Publish(e Event) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, s := range b.subscriptions {
		if s.wanted[e.Kind] {
			s.enqueue(e)
		}
	}
}

// Close ends all subscriptions. Events that are still queued are dropped.
func (b *Bus) Close() {
	b.mu.Lock()
	subscriptions := b.subscriptions
	b.subscriptions, b.closed = nil, true
	b.mu.Unlock()
	for _, s := range subscriptions {
		s.shutdown()
	}
}

func (b *Bus) remove(s *Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.subscriptions {
		if other == s {
			b.subscriptions = append(b.subscriptions[:i], b.subscriptions[i+1:]...)
			return
		}
	}
}

// Subscription is one subscriber's view of the bus.
type Subscription struct {
	bus      *Bus
	wanted   [kindCount]bool
	capacity int
	wake     chan struct{}
	out      chan Event
	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{}

	mu sync.Mutex
	// queue may exceed capacity by one event for each (kind, sink), because only equals can be merged.
	queue []Event
}

// Events is the subscriber's channel. It is closed when the subscription or the bus is.
func (s *Subscription) Events() <-chan Event { return s.out }

// Close ends the subscription and joins its goroutine.
func (s *Subscription) Close() {
	s.bus.remove(s)
	s.shutdown()
}

func (s *Subscription) shutdown() {
	s.stopOnce.Do(func() { close(s.stop) })
	<-s.done
}

func (s *Subscription) enqueue(e Event) {
	s.mu.Lock()
	if len(s.queue) < s.capacity || !s.mergeLocked(e) {
		s.queue = append(s.queue, e)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// mergeLocked widens the newest queued event of e's kind and sink by e; false where there is none.
func (s *Subscription) mergeLocked(e Event) bool {
	for i := len(s.queue) - 1; i >= 0; i-- {
		if q := &s.queue[i]; q.Kind == e.Kind && q.Sink == e.Sink {
			q.First, q.Last = min(q.First, e.First), max(q.Last, e.Last)
			return true
		}
	}
	return false
}

// deliver is the subscription's goroutine. It takes the whole queue at a time, so that the two slices alternate and
// nothing is allocated once they have grown.
func (s *Subscription) deliver() {
	defer close(s.done)
	defer close(s.out)
	var batch []Event
	for {
		select {
		case <-s.wake:
		case <-s.stop:
			return
		}
		s.mu.Lock()
		batch, s.queue = s.queue, batch[:0]
		s.mu.Unlock()
		for _, e := range batch {
			select {
			case s.out <- e:
			case <-s.stop:
				return
			}
		}
	}
}
