package metrics

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
)

// worker drains one shard. Its fields belong to its goroutine; loss and writer are read after that has ended.
type worker struct {
	shard    *shard
	writer   Writer
	config   Config
	counters *counters
	logger   *slog.Logger

	batch   []Metric
	pending []submission // whose metrics are in batch
	loss    Loss
}

// run returns when the queue is closed and empty. The end of ctx makes it give up what cannot be written.
func (w *worker) run(ctx context.Context) {
	ticker := time.NewTicker(w.config.FlushInterval)
	defer ticker.Stop()
	for {
		select {
		case sub, open := <-w.shard.queue:
			if !open {
				w.flush(ctx)
				return
			}
			w.add(ctx, sub)
		case <-ticker.C:
			w.flush(ctx)
		}
	}
}

// add puts a submission into the batch. It writes first where the batch would grow beyond its size, so that only a
// submission which is larger by itself makes a larger transaction.
func (w *worker) add(ctx context.Context, sub submission) {
	if len(w.batch)+len(sub.metrics) > w.config.BatchSize {
		w.flush(ctx)
	}
	w.batch = append(w.batch, sub.metrics...)
	w.pending = append(w.pending, sub)
	if len(w.batch) >= w.config.BatchSize {
		w.flush(ctx)
	}
}

// flush writes the batch, however often that must be tried, and completes its submissions.
func (w *worker) flush(ctx context.Context) {
	if len(w.batch) == 0 {
		return
	}
	uncertain := false
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			w.giveUp(uncertain)
			return
		}
		written, err := w.writer.Write(ctx, w.batch)
		if err == nil {
			w.counters.written.Add(float64(written.Rows))
			w.counters.deadLettered.Add(float64(written.DeadLetters))
			w.complete(nil)
			return
		}
		var unknown *timescale.CommitUnknownError
		uncertain = uncertain || errors.As(err, &unknown)
		pause := w.pause(attempt)
		w.counters.retries.Inc()
		w.logger.Warn("metrics not written, will try again", "metrics", len(w.batch), "attempt", attempt+1, "pause", pause,
			"error", err)
		wait(ctx, pause)
	}
}

// pause doubles with each attempt. A random half of it keeps workers and servers from trying in step.
func (w *worker) pause(attempt int) time.Duration {
	full := w.config.RetryMin
	for range attempt {
		if full > w.config.RetryMax/2 {
			full = w.config.RetryMax
			break
		}
		full *= 2
	}
	return full/2 + rand.N(full/2+1)
}

func wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// giveUp counts the batch as lost and tells those who wait.
func (w *worker) giveUp(uncertain bool) {
	if uncertain {
		w.loss.Uncertain += len(w.batch)
		w.complete(refusal.New(refusal.OutcomeUnknown, "", "the server stopped before the database had answered"))
		return
	}
	w.loss.Metrics += len(w.batch)
	w.complete(refusal.New(refusal.Unavailable, "", "the server stopped before the metrics were written"))
}

// complete empties the batch.
func (w *worker) complete(err *refusal.Error) {
	var bytes int64
	for i := range w.pending {
		bytes += w.pending[i].bytes
		w.pending[i].receipt.complete(err)
	}
	w.shard.release(len(w.batch), bytes)
	w.counters.depth.Sub(float64(len(w.batch)))
	clear(w.batch)
	clear(w.pending)
	w.batch, w.pending = w.batch[:0], w.pending[:0]
}
