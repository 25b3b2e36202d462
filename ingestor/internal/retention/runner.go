package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Store removes rows that are older than a cutoff.
type Store interface {
	// Name is that of the store in logs and metrics.
	Name() string
	// Expire removes what lies before the cutoffs, and returns how many rows it has removed, also with an error. It may be called again
	// after an error. An error with a method Fatal that returns true ends the server.
	Expire(ctx context.Context, cutoffs Cutoffs) (rows int64, err error)
}

// Rule is a store and how long it keeps what it holds.
type Rule struct {
	Store  Store
	Policy Policy
}

// Options are what Start takes.
type Options struct {
	Rules []Rule
	// Interval is the time between two rounds. The first one begins at once.
	Interval   time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	OnFatal    func(error)
}

// Runner applies rules from time to time.
type Runner struct {
	opts     Options
	cancel   context.CancelFunc
	done     sync.WaitGroup
	removed  *prometheus.CounterVec
	failures *prometheus.CounterVec
}

// Start begins. Rules that never remove anything are left out.
func Start(opts Options) (*Runner, error) {
	if opts.Interval <= 0 {
		return nil, fmt.Errorf("retention: an interval of %s", opts.Interval)
	}
	r := &Runner{opts: opts}
	r.removed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ingestor_retention_removed_rows_total", Help: "Rows removed because of their age.",
	}, []string{"store"})
	r.failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ingestor_retention_failures_total", Help: "Failed attempts to remove rows because of their age.",
	}, []string{"store"})
	if err := errors.Join(opts.Registerer.Register(r.removed), opts.Registerer.Register(r.failures)); err != nil {
		return nil, err
	}
	r.opts.Rules = nil
	for _, rule := range opts.Rules {
		if rule.Policy.Enabled() {
			r.opts.Rules = append(r.opts.Rules, rule)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.done.Go(func() { r.run(ctx) })
	return r, nil
}

// Close stops, in the midst of a round where one runs.
func (r *Runner) Close() {
	r.cancel()
	r.done.Wait()
}

func (r *Runner) run(ctx context.Context) {
	if len(r.opts.Rules) == 0 {
		return
	}
	ticker := time.NewTicker(r.opts.Interval)
	defer ticker.Stop()
	for {
		for _, rule := range r.opts.Rules {
			if err := r.apply(ctx, rule, time.Now()); err != nil {
				r.opts.OnFatal(err)
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// apply runs a rule once and returns its error where that is fatal.
func (r *Runner) apply(ctx context.Context, rule Rule, now time.Time) error {
	name := rule.Store.Name()
	rows, err := rule.Store.Expire(ctx, rule.Policy.At(now))
	r.removed.WithLabelValues(name).Add(float64(rows))
	if rows > 0 {
		r.opts.Logger.Info("removed rows because of their age", "store", name, "rows", rows)
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	r.failures.WithLabelValues(name).Inc()
	var fatal interface{ Fatal() bool }
	if errors.As(err, &fatal) && fatal.Fatal() {
		return fmt.Errorf("retention in %s: %w", name, err)
	}
	r.opts.Logger.Warn("old rows were not removed, will try again", "store", name, "error", err)
	return nil
}
