package processor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

// eventsCapacity: events of one kind merge, so that a short queue loses nothing.
const eventsCapacity = 64

// Processor flushes the log into the sinks. The order of its life: New, Recover, Start, Drain, Close.
//
//	committer ── Accept ──> backlog ──> worker (parquet)    ──> Sink     each flushes in log order,
//	    │                      │  └───> worker (timescale)  ──> Sink     from memory or from the log
//	    │ events               │              │ checkpoint
//	    └────────> listener    │              ▼
//	               │ wakes the workers   low watermark ──> events.Committed
//	               └ dedupe copy              │
//	                     └──── snapshot ──> checkpointer ──> manifest ──> log is cut
type Processor struct {
	config  Config
	deps    Dependencies
	metrics *metrics
	backlog backlog
	workers []*worker

	tableMu sync.Mutex
	table   *dedupe.Table // the dedupe copy; guarded by tableMu

	mu sync.Mutex
	// low is the low watermark: what all sinks have flushed.
	low uint64
	// moved is closed, and replaced, when a sink's checkpoint moves.
	moved chan struct{}

	// Of the checkpointer.
	checkpointed uint64
	snapshot     []byte
	// recorded is the low watermark in the manifest, which never moves back: a sink that was added may be below it.
	recorded uint64

	subscription *events.Subscription
	cancel       context.CancelFunc
	goroutines   sync.WaitGroup
	fatalOnce    sync.Once
}

// New returns a processor that has yet to Recover and Start.
func New(config Config, deps Dependencies) (*Processor, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if len(deps.Sinks) == 0 {
		return nil, errors.New("processor: at least one sink is required")
	}
	p := &Processor{config: config, deps: deps, moved: make(chan struct{})}
	if !config.Paused {
		p.backlog.memoryBytes = config.MemoryBytes
	}
	p.metrics = newMetrics(p, deps.Registerer)
	names := make(map[string]bool)
	for _, sink := range deps.Sinks {
		name := sink.Name()
		if names[name] {
			return nil, fmt.Errorf("processor: two sinks are named %q", name)
		}
		names[name] = true
		w := &worker{p: p, sink: sink, wake: make(chan struct{}, 1)}
		w.replayer = replayer{
			log: deps.Log, pool: slab.NewNamed("replay_"+name, config.ReplayBytes, deps.Registerer),
			maxRecords: config.ReplayRecords,
		}
		w.metrics = p.metrics.forSink(w)
		p.workers = append(p.workers, w)
	}
	return p, nil
}

// Start starts the goroutines. REQUIRES: Recover has returned nil.
func (p *Processor) Start() error {
	subscription, err := p.deps.Events.Subscribe(eventsCapacity, events.GenerationSealed)
	if err != nil {
		return fmt.Errorf("subscribe to sealed generations: %w", err)
	}
	p.subscription = subscription
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	if p.config.Paused {
		p.deps.Logger.Warn("paused: nothing is flushed, everything stays in the log until a start without processor.paused")
	} else {
		for _, w := range p.workers {
			p.goroutines.Go(func() { w.run(ctx) })
		}
	}
	p.goroutines.Go(p.listen)
	p.goroutines.Go(func() { p.checkpointRegularly(ctx) })
	return nil
}

// Accept takes over a sealed generation and the caller's reference. Generations come in log order, without gaps. The
// event GenerationSealed is to follow: it wakes the workers. Accept does not block.
func (p *Processor) Accept(g *memtable.Generation) { p.backlog.add(g) }

// listen is the goroutine that follows the committer.
func (p *Processor) listen() {
	for range p.subscription.Events() {
		for _, w := range p.workers {
			w.poke()
		}
		p.absorb()
	}
}

// absorb brings the dedupe copy to the end of what is sealed.
func (p *Processor) absorb() {
	p.tableMu.Lock()
	defer p.tableMu.Unlock()
	for _, g := range p.backlog.unabsorbed() {
		for i := range g.Stamps {
			p.table.Apply(&g.Stamps[i])
		}
		p.table.Advance(g.Last)
		g.Release()
	}
	p.backlog.absorbedUpTo(p.table.AppliedLSN())
}

// advanced recomputes the low watermark after a sink's checkpoint has moved.
func (p *Processor) advanced() {
	p.mu.Lock()
	former := p.low
	low, high := p.bounds()
	p.low = low
	close(p.moved)
	p.moved = make(chan struct{})
	if low > former {
		// Published under the lock, so that the ranges come in order.
		p.deps.Events.Publish(events.Event{Kind: events.Committed, First: former + 1, Last: low})
	}
	p.mu.Unlock()
	p.backlog.flushedUpTo(low, high)
}

// bounds returns the lowest and the highest checkpoint of all sinks.
func (p *Processor) bounds() (low, high uint64) {
	low = p.workers[0].flushedLSN()
	for _, w := range p.workers {
		flushed := w.flushedLSN()
		low, high = min(low, flushed), max(high, flushed)
	}
	return low, high
}

// LowWatermark is the position up to which all sinks have flushed.
func (p *Processor) LowWatermark() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.low
}

// Flush waits until all sinks have flushed everything that was sealed before the call, or until ctx ends. A paused processor does
// not wait: what is not flushed stays in the log, which is ErrPaused.
func (p *Processor) Flush(ctx context.Context) error {
	target := p.backlog.lastLSN()
	for {
		p.mu.Lock()
		low, moved := p.low, p.moved
		p.mu.Unlock()
		switch {
		case low >= target:
			return nil
		case p.config.Paused:
			return fmt.Errorf("LSN %d to %d stay in the log: %w", low+1, target, ErrPaused)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("sinks have flushed up to LSN %d of %d, the rest stays in the log: %w", low, target, ctx.Err())
		}
	}
}

// Drain flushes what is sealed, as far as the sinks take it before ctx ends, and makes a last checkpoint. What is
// left stays in the log. The committer must have been drained before.
func (p *Processor) Drain(ctx context.Context) error {
	return errors.Join(p.Flush(ctx), p.Close())
}

// Close stops the workers where they are, makes a last checkpoint and releases all memory. An interrupted flush is
// decided by the sink's checkpoint at the next start. After the first Close, or without Start, it does nothing.
func (p *Processor) Close() error {
	if p.cancel == nil {
		return nil
	}
	p.cancel()
	p.cancel = nil
	p.subscription.Close()
	p.goroutines.Wait()
	err := p.checkpoint()
	p.backlog.clear()
	return err
}

// fail reports the first error after which the processor cannot go on.
func (p *Processor) fail(err error) {
	p.fatalOnce.Do(func() {
		p.deps.Logger.Error("the processor cannot go on", "error", err)
		if p.deps.OnFatal != nil {
			p.deps.OnFatal(err)
		}
	})
}

// SinkHealth says how a sink does.
type SinkHealth struct {
	Name       string
	FlushedLSN uint64
	// PendingRecords is what is durable in the log and not in the sink.
	PendingRecords uint64
	// FailingSince is zero, and LastError nil, while the last attempt has succeeded.
	FailingSince time.Time
	LastError    error
}

// Health returns the state of all sinks, in their configured order.
func (p *Processor) Health() []SinkHealth {
	list := make([]SinkHealth, 0, len(p.workers))
	for _, w := range p.workers {
		w.mu.Lock()
		h := SinkHealth{Name: w.sink.Name(), FlushedLSN: w.flushed, FailingSince: w.failingSince, LastError: w.lastError}
		w.mu.Unlock()
		h.PendingRecords = w.pending(h.FlushedLSN)
		list = append(list, h)
	}
	return list
}

func (w *worker) pending(flushed uint64) uint64 {
	if durable := w.p.deps.Log.DurableLSN(); durable > flushed {
		return durable - flushed
	}
	return 0
}
