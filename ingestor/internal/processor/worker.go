package processor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

// worker moves the backlog into one sink. Its goroutine is the only one that calls the sink once the processor has
// started.
type worker struct {
	p        *Processor
	sink     Sink
	replayer replayer
	metrics  *sinkMetrics
	wake     chan struct{}

	// known: flushed is what the sink itself has said since the last failure, not only a lower bound. Of the goroutine.
	known bool

	mu           sync.Mutex
	flushed      uint64
	failures     int // in a row
	failingSince time.Time
	lastError    error
}

func (w *worker) flushedLSN() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushed
}

// run is the worker's goroutine.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		worked, err := w.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && worked:
		case err == nil:
			w.recovered()
			w.pause(ctx, 0)
		case isFatal(err):
			w.p.fail(fmt.Errorf("sink %s: %w", w.sink.Name(), err))
			return
		default:
			pause := w.failed(err)
			w.p.deps.Logger.Warn("sink failed, will try again", "sink", w.sink.Name(), "flushed_lsn", w.flushedLSN(),
				"pause", pause, "error", err)
			w.pause(ctx, pause)
		}
	}
}

// pause waits: for d, or where d is 0 until there is more to flush.
func (w *worker) pause(ctx context.Context, d time.Duration) {
	if d == 0 {
		select {
		case <-w.wake:
		case <-ctx.Done():
		}
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// step flushes the next piece; false where there is none.
func (w *worker) step(ctx context.Context) (worked bool, err error) {
	if err := w.ask(ctx); err != nil {
		return false, err
	}
	flushed := w.flushedLSN()
	g, err := w.next(ctx, flushed)
	if g == nil || err != nil {
		return false, err
	}
	defer g.Release()
	g.Sort()
	first, last, records := g.First, g.Last, g.Records()
	started := time.Now()
	flushContext, cancel := context.WithTimeout(ctx, w.p.config.FlushTimeout)
	defer cancel()
	if err := w.sink.Flush(flushContext, g, flushed); err != nil {
		w.known = false // it may have happened all the same
		return false, fmt.Errorf("flush %d-%d: %w", first, last, err)
	}
	w.metrics.flushed(time.Since(started), records)
	w.advance(last)
	return true, nil
}

// ask makes sure that flushed is the sink's own checkpoint.
func (w *worker) ask(ctx context.Context) error {
	if w.known {
		return nil
	}
	askContext, cancel := context.WithTimeout(ctx, w.p.config.AskTimeout)
	defer cancel()
	stored, err := w.sink.Flushed(askContext)
	if err != nil {
		return fmt.Errorf("ask for the checkpoint: %w", err)
	}
	flushed, end := w.flushedLSN(), w.p.backlog.lastLSN()
	if err := plausible(stored, flushed, end); err != nil {
		return err
	}
	w.known = true
	if stored > flushed {
		w.metrics.flushedRecords.Add(float64(stored - flushed))
		w.advance(stored)
	}
	return nil
}

// plausible says whether a sink's checkpoint can be true, given that it was known to be at least atLeast and that the
// log ends at end.
func plausible(stored, atLeast, end uint64) error {
	switch {
	case stored < atLeast:
		return fatalf("%w: it has moved back from LSN %d to %d, so the sink has lost data", ErrMisplaced, atLeast, stored)
	case stored > end:
		return fatalf("%w: it is at LSN %d and the log ends at %d, so they do not belong together", ErrMisplaced, stored, end)
	}
	return nil
}

// next returns the piece to flush above a checkpoint, from memory or from the log, with a reference; nil where there
// is none.
func (w *worker) next(ctx context.Context, flushed uint64) (*memtable.Generation, error) {
	g, last, err := w.p.backlog.next(flushed)
	switch {
	case err != nil:
		return nil, fatalf("%w", err)
	case g != nil || last == 0:
		w.replayer.pool.Trim()
		return g, nil
	}
	g, err = w.replayer.read(ctx, flushed+1, last)
	if err == nil {
		if g.IsGap() {
			w.p.deps.Logger.Warn("the log has no records here, the sink goes on behind them", "sink", w.sink.Name(),
				"first_lsn", g.First, "last_lsn", g.Last)
		}
		w.metrics.replayedRecords.Add(float64(g.Records()))
	}
	return g, err
}

// advance notes a new checkpoint of the sink.
func (w *worker) advance(lsn uint64) {
	w.mu.Lock()
	first := w.flushed + 1
	w.flushed = lsn
	w.mu.Unlock()
	w.recovered()
	w.p.deps.Events.Publish(events.Event{Kind: events.Flushed, First: first, Last: lsn, Sink: w.sink.Name()})
	w.p.advanced()
}

// recovered ends a row of failures.
func (w *worker) recovered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures, w.failingSince, w.lastError = 0, time.Time{}, nil
	w.metrics.failing.Set(0)
}

// failed notes a failed attempt and returns the pause before the next one.
func (w *worker) failed(err error) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures == 0 {
		w.failingSince = time.Now()
	}
	w.failures++
	w.lastError = err
	w.metrics.failures.Inc()
	w.metrics.failing.Set(1)
	return backoff(w.p.config, w.failures)
}

// backoff returns the pause after the n-th failure in a row: between half and the whole of a time that doubles.
func backoff(c Config, n int) time.Duration {
	d := c.RetryMin
	for ; n > 1 && d < c.RetryMax; n-- {
		d *= 2
	}
	d = min(d, c.RetryMax)
	return d/2 + rand.N(d/2+1)
}
