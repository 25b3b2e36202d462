package metrics

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
)

// Metric is one measured value.
type Metric = timescale.Metric

// Writer stores batches of metrics for one worker. *timescale.MetricWriter is one.
type Writer interface {
	// Write stores metrics in one transaction. After an error it is called again with the same metrics, until it
	// returns nil or the service gives up; they must be stored once however often that is.
	Write(ctx context.Context, metrics []Metric) (timescale.Written, error)
	// Close is called once, after the last Write.
	Close(ctx context.Context) error
}

// Dependencies are what the service works with. All are needed.
type Dependencies struct {
	// NewWriter is called once for each shard.
	NewWriter  func() Writer
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Service buffers metrics and writes them. Safe for concurrent use.
type Service struct {
	config   Config
	logger   *slog.Logger
	counters *counters
	seed     maphash.Seed
	shards   []*shard
	workers  sync.WaitGroup
	abandon  context.CancelFunc // makes the workers give up
}

// New starts the workers. They take the values of ctx, not its end: only Close stops them.
func New(ctx context.Context, config Config, deps Dependencies) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	s := &Service{config: config, logger: deps.Logger, counters: newCounters(deps.Registerer), seed: maphash.MakeSeed()}
	ctx, s.abandon = context.WithCancel(context.WithoutCancel(ctx))
	for i := range config.Shards {
		sh := newShard(config)
		s.shards = append(s.shards, sh)
		w := &worker{
			shard: sh, writer: deps.NewWriter(), config: config, counters: s.counters,
			logger: deps.Logger.With("metrics_shard", i),
		}
		sh.worker = w
		s.workers.Go(func() { w.run(ctx) })
	}
	return s, nil
}

// Submit takes metrics of one tenant, all or none, and returns at once. They are the service's from then on. The
// Receipt tells when they are committed. The only errors are *refusal.Error: Overloaded with a delay where the buffer
// is full, TooLarge where it could never hold them, Unavailable after Close.
//
// REQUIRES: len(metrics) > 0. The first one's service picks the shard.
func (s *Service) Submit(metrics []Metric) (*Receipt, error) {
	var h maphash.Hash
	h.SetSeed(s.seed)
	_, _ = h.WriteString(metrics[0].Tenant) // never fails
	_ = h.WriteByte(0)
	_, _ = h.WriteString(metrics[0].Service)
	receipt, refused := s.shards[h.Sum64()%uint64(len(s.shards))].accept(metrics)
	if refused != nil {
		s.counters.refused.Add(float64(len(metrics)))
		return nil, refused
	}
	s.counters.accepted.Add(float64(len(metrics)))
	s.counters.depth.Add(float64(len(metrics)))
	return receipt, nil
}

// Buffered returns the number of metrics that are accepted and not yet written.
func (s *Service) Buffered() int {
	n := 0
	for _, sh := range s.shards {
		n += sh.buffered()
	}
	return n
}

// Loss says what Close could not write.
type Loss struct {
	// Metrics counts those that are certainly not in the database.
	Metrics int
	// Uncertain counts those whose transaction was given up while its outcome was unknown.
	Uncertain int
}

// Close refuses further metrics, writes what is buffered, and returns when the workers have ended. When ctx ends first
// they give up; what is lost then is logged and returned.
func (s *Service) Close(ctx context.Context) Loss {
	for _, sh := range s.shards {
		sh.close()
	}
	stopAbandon := context.AfterFunc(ctx, s.abandon)
	s.workers.Wait()
	stopAbandon()
	s.abandon()
	var loss Loss
	for _, sh := range s.shards {
		loss.Metrics += sh.worker.loss.Metrics
		loss.Uncertain += sh.worker.loss.Uncertain
		if err := sh.worker.writer.Close(ctx); err != nil {
			s.logger.Warn("a writer of metrics was not closed in order", "error", err) // it costs a row that is purged later
		}
	}
	s.counters.dropped.Add(float64(loss.Metrics))
	s.counters.uncertain.Add(float64(loss.Uncertain))
	if loss != (Loss{}) {
		s.logger.Error("metrics given up at shutdown", "metrics", loss.Metrics, "uncertain", loss.Uncertain)
	}
	return loss
}

// Receipt tells what became of one submission.
type Receipt struct {
	done chan struct{}
	err  error // set before done is closed
}

// Wait returns when the submission is committed (nil), when the service has given it up (a *refusal.Error), or when ctx
// ends, which says nothing of the submission.
func (r *Receipt) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Receipt) complete(err *refusal.Error) {
	if err != nil {
		r.err = err
	}
	close(r.done)
}
