package metrics

import (
	"sync"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
)

// submission is what one Submit brought.
type submission struct {
	metrics []Metric
	bytes   int64
	receipt *Receipt
}

// shard is one bounded buffer.
type shard struct {
	maxMetrics int
	maxBytes   int64
	retryDelay time.Duration
	worker     *worker
	// queue never blocks a sender: it has a place for each metric that may be buffered, and a submission has at least
	// one.
	queue chan submission

	mu      sync.Mutex // held over sends, so that none comes after close
	closed  bool
	metrics int // buffered, in the queue or in the worker's hands
	bytes   int64
}

func newShard(config Config) *shard {
	return &shard{
		maxMetrics: config.BufferSize, maxBytes: config.BufferBytes, retryDelay: config.FlushInterval,
		queue: make(chan submission, config.BufferSize),
	}
}

func (s *shard) accept(metrics []Metric) (*Receipt, *refusal.Error) {
	sub := submission{metrics: metrics, receipt: &Receipt{done: make(chan struct{})}}
	for i := range metrics {
		sub.bytes += sizeBytes(&metrics[i])
	}
	if len(metrics) > s.maxMetrics || sub.bytes > s.maxBytes {
		return nil, refusal.New(refusal.TooLarge, "metrics", "%d metrics of %d bytes; the buffer takes %d of %d bytes",
			len(metrics), sub.bytes, s.maxMetrics, s.maxBytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, refusal.Retry(refusal.Unavailable, s.retryDelay, "the server is shutting down")
	}
	if s.metrics+len(metrics) > s.maxMetrics || s.bytes+sub.bytes > s.maxBytes {
		return nil, refusal.Retry(refusal.Overloaded, s.retryDelay, "the buffer of metrics is full (%d metrics, %d bytes)",
			s.metrics, s.bytes)
	}
	s.metrics += len(metrics)
	s.bytes += sub.bytes
	s.queue <- sub
	return sub.receipt, nil
}

// release gives back the room of submissions that have left the buffer.
func (s *shard) release(metrics int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics -= metrics
	s.bytes -= bytes
}

func (s *shard) buffered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metrics
}

func (s *shard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.queue)
	}
}

// metricFixedBytes is about what a Metric takes beside its strings.
const metricFixedBytes = 160

func sizeBytes(m *Metric) int64 {
	return int64(metricFixedBytes + len(m.Service) + len(m.Instance) + len(m.Name) + len(m.Unit) + len(m.Labels))
}
