package ingestion

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// Config bounds the service.
type Config struct {
	// QueueBatches and QueueBytes bound what is admitted and not yet in the committer's hands. A small batch counts as
	// QueueBytes/QueueBatches bytes.
	QueueBatches int
	QueueBytes   int64
	// GatherBytes bounds what the committer takes from the queue at a time, and so how much of what others have sent a batch
	// waits for.
	GatherBytes int64
	// MaxCommittedWaiters bounds the batches that are durable and wait for the sinks before they are answered.
	MaxCommittedWaiters int
	// Generation says when the memtables rotate.
	Generation memtable.Limits
	// OverloadedRetryDelay and NoSpaceRetryDelay are what a refused client is told to wait.
	OverloadedRetryDelay time.Duration
	NoSpaceRetryDelay    time.Duration
	// IdleAfter is the time without a batch after which the log is told to prove that its last group was synced.
	IdleAfter time.Duration
}

// DefaultConfig suits a server with a few hundred MiB of memory budget.
func DefaultConfig() Config {
	return Config{
		QueueBatches:        1 << 15,
		QueueBytes:          64 << 20,
		GatherBytes:         4 << 20,
		MaxCommittedWaiters: 1 << 16,
		Generation: memtable.Limits{
			GenerationBytes: 64 << 20, GenerationRecords: 1 << 20, GenerationAge: 10 * time.Second,
		},
		OverloadedRetryDelay: 100 * time.Millisecond,
		NoSpaceRetryDelay:    2 * time.Second,
		IdleAfter:            time.Second,
	}
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.QueueBatches <= 0 || c.QueueBytes <= 0 || c.GatherBytes <= 0 || c.MaxCommittedWaiters <= 0:
		return fmt.Errorf("ingestion queues must be positive: %d batches, %d bytes, %d bytes at a time, %d committed waiters",
			c.QueueBatches, c.QueueBytes, c.GatherBytes, c.MaxCommittedWaiters)
	case c.OverloadedRetryDelay <= 0 || c.NoSpaceRetryDelay <= 0 || c.IdleAfter <= 0:
		return fmt.Errorf("ingestion delays must be positive: overloaded %s, no space %s, idle %s",
			c.OverloadedRetryDelay, c.NoSpaceRetryDelay, c.IdleAfter)
	}
	return c.Generation.Validate()
}

// Log is what the committer needs of the write-ahead log; *wal.WAL is one. Only the committer's goroutine calls it.
// Errors are those of package wal.
type Log interface {
	Append(wal.Entry) (first wal.LSN, err error)
	Begin() error
	Done() <-chan error
	Sync() error
	MarkDurable() error
	DurableLSN() wal.LSN
}

// Generations takes sealed generations, in log order, from the committer's goroutine.
type Generations interface {
	// Accept takes over the caller's reference. It must not block.
	Accept(g *memtable.Generation)
}

// Stages takes the durations of a batch's stages; *telemetry.Stages is one. Called from several goroutines.
type Stages interface {
	Observe(stage telemetry.Stage, d time.Duration)
}

// Dependencies are what the service works with. All but Registerer and OnFatal are required.
type Dependencies struct {
	Log Log
	// Dedupe is the table as of the log's end. The service takes it over.
	Dedupe *dedupe.Table
	// CommittedLSN is the position up to which all sinks had committed at start-up.
	CommittedLSN uint64
	// Memory is the pool that the submissions' buffers come from.
	Memory      *slab.Pool
	Generations Generations
	Events      *events.Bus
	Stages      Stages
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	// OnFatal is called once, from the committer's goroutine, when the log has failed: the process must exit. It must
	// not block.
	OnFatal func(error)
}
