package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
)

// memoryWriter stores batches, or fails as it is told.
type memoryWriter struct {
	mu      sync.Mutex
	fail    func(attempt int) error // nil: never
	dead    int                     // of each batch
	tries   int
	batches [][]string // names of metrics
	closed  bool
}

func (w *memoryWriter) Write(_ context.Context, metrics []Metric) (timescale.Written, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tries++
	if w.fail != nil {
		if err := w.fail(w.tries); err != nil {
			return timescale.Written{}, err
		}
	}
	var names []string
	for _, m := range metrics {
		names = append(names, m.Name)
	}
	w.batches = append(w.batches, names)
	return timescale.Written{Rows: len(metrics) - w.dead, DeadLetters: w.dead}, nil
}

func (w *memoryWriter) Close(context.Context) error {
	w.closed = true
	return nil
}

func (w *memoryWriter) stored() [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([][]string{}, w.batches...)
}

// start returns a service of one shard. The test closes it.
func start(t *testing.T, w *memoryWriter, change func(*Config)) *Service {
	t.Helper()
	config := DefaultConfig()
	config.Shards, config.BufferSize, config.BatchSize = 1, 100, 10
	if change != nil {
		change(&config)
	}
	s, err := New(t.Context(), config, Dependencies{
		NewWriter: func() Writer { return w }, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	return s
}

func named(service string, from, n int) []Metric {
	metrics := make([]Metric, n)
	for i := range metrics {
		metrics[i] = Metric{Tenant: "acme", Service: service, Name: fmt.Sprint("m", from+i)}
	}
	return metrics
}

func submit(t *testing.T, s *Service, metrics []Metric) *Receipt {
	t.Helper()
	receipt, err := s.Submit(metrics)
	require.NoError(t, err)
	return receipt
}

func closeService(t *testing.T, s *Service) Loss {
	t.Helper()
	return s.Close(t.Context())
}

// requireConserved checks that every accepted metric is accounted for.
func requireConserved(t *testing.T, s *Service) {
	t.Helper()
	value := func(c prometheus.Collector) float64 { return testutil.ToFloat64(c) }
	c := s.counters
	require.Equal(t, value(c.accepted),
		value(c.written)+value(c.deadLettered)+value(c.dropped)+value(c.uncertain)+value(c.depth))
}

func TestBatchIsWrittenAtItsSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &memoryWriter{}
		s := start(t, w, nil)
		for i := range 9 {
			submit(t, s, named("a", i, 1))
		}
		synctest.Wait()
		require.Empty(t, w.stored())
		receipt := submit(t, s, named("a", 9, 1))
		require.NoError(t, receipt.Wait(t.Context()))
		require.Equal(t, [][]string{{"m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"}}, w.stored())
		require.Zero(t, closeService(t, s))
		require.True(t, w.closed)
		requireConserved(t, s)
	})
}

func TestBatchIsWrittenAtTheTicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &memoryWriter{}
		s := start(t, w, func(c *Config) { c.FlushInterval = time.Minute })
		receipt := submit(t, s, named("a", 0, 3))
		begin := time.Now()
		require.NoError(t, receipt.Wait(t.Context()))
		require.Equal(t, time.Minute, time.Since(begin))
		require.Equal(t, [][]string{{"m0", "m1", "m2"}}, w.stored())
		require.Zero(t, closeService(t, s))
	})
}

func TestSubmissionIsNeverSplit(t *testing.T) {
	w := &memoryWriter{}
	s := start(t, w, nil)
	submit(t, s, named("a", 0, 6))
	submit(t, s, named("a", 6, 6))
	submit(t, s, named("a", 12, 25))
	require.Zero(t, closeService(t, s))
	var sizes []int
	for _, b := range w.stored() {
		sizes = append(sizes, len(b))
	}
	require.Equal(t, []int{6, 6, 25}, sizes)
}

func TestFullBufferRefusesWithADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		w := &memoryWriter{fail: func(int) error { return down }}
		s := start(t, w, nil)
		submit(t, s, named("a", 0, 100))
		synctest.Wait() // the worker holds them and still they fill the buffer
		_, err := s.Submit(named("a", 100, 1))
		var refused *refusal.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, refusal.Overloaded, refused.Code)
		require.Positive(t, refused.RetryDelay)
		require.Equal(t, 100.0, testutil.ToFloat64(s.counters.depth))

		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		time.Sleep(DefaultConfig().RetryMax) // of the bubble's clock
		synctest.Wait()
		submit(t, s, named("a", 100, 100))
		require.Zero(t, closeService(t, s))
		require.Len(t, w.stored(), 2)
		requireConserved(t, s)
	})
}

func TestSubmissionLargerThanTheBufferIsRefusedForGood(t *testing.T) {
	s := start(t, &memoryWriter{}, func(c *Config) { c.BufferBytes = 1000 })
	for _, metrics := range [][]Metric{named("a", 0, 101), named(string(make([]byte, 1000)), 0, 1)} {
		_, err := s.Submit(metrics)
		var refused *refusal.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, refusal.TooLarge, refused.Code)
	}
	require.Zero(t, closeService(t, s))
}

func TestFailedBatchIsTriedAgainUntilItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &memoryWriter{fail: func(attempt int) error {
			if attempt < 8 {
				return errors.New("down")
			}
			return nil
		}}
		s := start(t, w, nil)
		first := submit(t, s, named("a", 0, 10))
		second := submit(t, s, named("a", 10, 10))
		require.NoError(t, first.Wait(t.Context()))
		require.NoError(t, second.Wait(t.Context()))
		require.Len(t, w.stored(), 2)
		require.Equal(t, 7.0, testutil.ToFloat64(s.counters.retries))
		require.Zero(t, closeService(t, s))
		requireConserved(t, s)
	})
}

func TestPausesGrowToTheirBound(t *testing.T) {
	w := worker{config: DefaultConfig()}
	for attempt := range 100 {
		full := w.config.RetryMax
		if attempt < 7 { // 6.4 s, and the bound is 10 s
			full = w.config.RetryMin << attempt
		}
		require.GreaterOrEqual(t, w.pause(attempt), full/2, "attempt %d", attempt)
		require.LessOrEqual(t, w.pause(attempt), full, "attempt %d", attempt)
	}
}

func TestCloseWritesWhatIsBuffered(t *testing.T) {
	w := &memoryWriter{dead: 1}
	s := start(t, w, nil)
	receipt := submit(t, s, named("a", 0, 3))
	require.Zero(t, closeService(t, s))
	require.NoError(t, receipt.Wait(t.Context()))
	require.Equal(t, [][]string{{"m0", "m1", "m2"}}, w.stored())
	requireConserved(t, s)

	_, err := s.Submit(named("a", 3, 1))
	var refused *refusal.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, refusal.Unavailable, refused.Code)
}

func TestCloseCountsWhatItCouldNotWrite(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want Loss
		code refusal.Code
	}{
		"the database is down": {errors.New("down"), Loss{Metrics: 27}, refusal.Unavailable},
		"the last commit was not answered": {
			&timescale.CommitUnknownError{Err: errors.New("cut")}, Loss{Metrics: 17, Uncertain: 10}, refusal.OutcomeUnknown,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &memoryWriter{fail: func(int) error { return c.err }}
				s := start(t, w, nil)
				first := submit(t, s, named("a", 0, 10))
				submit(t, s, named("a", 10, 10))
				last := submit(t, s, named("a", 20, 7))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				loss := s.Close(ctx)
				require.Equal(t, c.want, loss)
				var refused *refusal.Error
				require.ErrorAs(t, first.Wait(t.Context()), &refused)
				require.Equal(t, c.code, refused.Code)
				require.ErrorAs(t, last.Wait(t.Context()), &refused)
				require.Equal(t, refusal.Unavailable, refused.Code)
				require.True(t, w.closed)
				requireConserved(t, s)
			})
		})
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	w := &memoryWriter{}
	s := start(t, w, func(c *Config) { c.FlushInterval = time.Hour })
	receipt := submit(t, s, named("a", 0, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, receipt.Wait(ctx), context.Canceled)
	require.Zero(t, closeService(t, s))
	require.NoError(t, receipt.Wait(t.Context()))
}

func TestServicesAreSpreadOverShardsAndStayThere(t *testing.T) {
	var mu sync.Mutex
	var writers []*memoryWriter
	config := DefaultConfig()
	config.Shards = 4
	s, err := New(t.Context(), config, Dependencies{
		NewWriter: func() Writer {
			mu.Lock()
			defer mu.Unlock()
			writers = append(writers, &memoryWriter{})
			return writers[len(writers)-1]
		},
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	want := map[string]bool{}
	var submitters sync.WaitGroup
	for service := range 64 {
		for i := range 3 {
			want[fmt.Sprint("m", service*100+i)] = true
		}
		submitters.Go(func() {
			for i := range 3 {
				if _, err := s.Submit(named(fmt.Sprint("service-", service), service*100+i, 1)); err != nil {
					t.Errorf("submit: %v", err)
				}
			}
		})
	}
	submitters.Wait()
	require.Zero(t, closeService(t, s))
	got := map[string]bool{}
	shardOf := map[string]int{}
	for i, w := range writers {
		require.NotEmpty(t, w.batches)
		for _, b := range w.batches {
			for _, name := range b {
				require.False(t, got[name], "%s is there twice", name)
				got[name] = true
				service := name[:len(name)-2]
				if shard, seen := shardOf[service]; seen {
					require.Equal(t, shard, i, "%s", name)
				}
				shardOf[service] = i
			}
		}
	}
	require.Equal(t, want, got)
}

func TestConfigIsChecked(t *testing.T) {
	require.NoError(t, func() error { c := DefaultConfig(); return c.Validate() }())
	for _, change := range []func(*Config){
		func(c *Config) { c.Shards = 0 }, func(c *Config) { c.BufferSize = 0 }, func(c *Config) { c.BufferBytes = 0 },
		func(c *Config) { c.BatchSize = -1 }, func(c *Config) { c.FlushInterval = 0 }, func(c *Config) { c.RetryMin = 0 },
		func(c *Config) { c.RetryMax = c.RetryMin - 1 },
	} {
		c := DefaultConfig()
		change(&c)
		_, err := New(t.Context(), c, Dependencies{})
		require.Error(t, err)
	}
}
