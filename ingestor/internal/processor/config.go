package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// Config bounds the processor.
type Config struct {
	// MemoryBytes bounds the sealed generations that are kept in memory, in bytes of the slab pool. One generation a
	// sink may be held above it while it is being flushed, and the one sealed last. The slab budget must hold this, two generations and the
	// commit queue, so that a sink that stands still does not stop ingestion.
	MemoryBytes int64
	// ReplayBytes and ReplayRecords bound what a worker reads from the log for one flush. The memory is apart from the
	// slab budget and belongs to each worker. ReplayBytes must hold the largest batch.
	ReplayBytes   int64
	ReplayRecords uint64
	// FlushTimeout ends a flush of a sink that does not answer. A flush begins anew after it, so it must hold what the largest
	// generation takes on a machine where others leave the sink little CPU.
	FlushTimeout time.Duration
	// AskTimeout ends the wait of a running worker for a sink's checkpoint.
	AskTimeout time.Duration
	// StartTimeout bounds the wait for the sinks' checkpoints at start-up.
	StartTimeout time.Duration
	// RetryMin and RetryMax bound the pause after a failed attempt. It doubles from failure to failure, less a random
	// part.
	RetryMin, RetryMax time.Duration
	// CheckpointInterval is the least time between two checkpoints (dedupe snapshot, manifest, cut of the log).
	CheckpointInterval time.Duration
	// MaxProducers bounds the dedupe table: see package dedupe.
	MaxProducers int
	// StartNow names the sinks that may begin where the log begins now. Others that lack what the log no longer holds, because they
	// were added or have lost their data, make Recover refuse.
	StartNow []string
	// Paused leaves everything in the log: no sink is flushed, sealed generations leave memory at once, the low watermark stays.
	Paused bool
}

// DefaultConfig suits a server with a few hundred MiB of memory budget.
func DefaultConfig() Config {
	return Config{
		MemoryBytes:        192 << 20,
		ReplayBytes:        64 << 20,
		ReplayRecords:      1 << 20,
		FlushTimeout:       15 * time.Minute,
		AskTimeout:         2 * time.Minute,
		StartTimeout:       5 * time.Second,
		RetryMin:           100 * time.Millisecond,
		RetryMax:           15 * time.Second,
		CheckpointInterval: time.Second,
		MaxProducers:       10000,
	}
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.MemoryBytes < 0 || c.ReplayBytes <= 0 || c.ReplayRecords == 0 || c.MaxProducers <= 0:
		return fmt.Errorf("processor bounds must be positive: memory %d, replay %d bytes and %d records, %d producers",
			c.MemoryBytes, c.ReplayBytes, c.ReplayRecords, c.MaxProducers)
	case c.FlushTimeout <= 0 || c.AskTimeout <= 0 || c.StartTimeout <= 0 || c.CheckpointInterval <= 0:
		return fmt.Errorf("processor times must be positive: timeouts of %s to flush, %s to ask, %s to start, checkpoint interval %s",
			c.FlushTimeout, c.AskTimeout, c.StartTimeout, c.CheckpointInterval)
	case c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return fmt.Errorf("processor retry pause from %s to %s", c.RetryMin, c.RetryMax)
	}
	return nil
}

// Log is what the processor needs of the write-ahead log; *wal.WAL is one.
type Log interface {
	FirstLSN() wal.LSN
	DurableLSN() wal.LSN
	Replay(ctx context.Context, from wal.LSN, fn func(wal.Frame) error) error
	TruncateBelow(lsn wal.LSN) error
}

// Manifest is where the processor keeps its progress; *manifest.Manifest is one. Sinks may commit to it beside the
// processor.
type Manifest interface {
	State() manifest.State
	Flushed(sink string) manifest.LSN
	ReadSnapshot() (contents []byte, lsn manifest.LSN, err error)
	WriteSnapshot(lsn manifest.LSN, contents []byte) (manifest.Snapshot, error)
	Commit(edit manifest.Edit) error
}

// Dependencies are what the processor works with. All but Registerer and OnFatal are required.
type Dependencies struct {
	Log      Log
	Manifest Manifest
	// Sinks are at least one, with different names.
	Sinks      []Sink
	Events     *events.Bus
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// OnFatal is called, from a goroutine of the processor, when it cannot go on: the process must exit. It must not
	// block.
	OnFatal func(error)
}

// ErrMisplaced is what errors wrap that say that a sink's checkpoint does not fit the log.
var ErrMisplaced = errors.New("its checkpoint does not fit the log")

// ErrPaused is what Flush returns where Config.Paused leaves everything in the log.
var ErrPaused = errors.New("the processor is paused")

// fatalError marks an error after which trying again cannot help.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }
func (e *fatalError) Fatal() bool   { return true }

func fatalf(format string, args ...any) error { return &fatalError{fmt.Errorf(format, args...)} }

// isFatal says whether the server must stop after err.
func isFatal(err error) bool {
	var marked interface{ Fatal() bool }
	if errors.As(err, &marked) && marked.Fatal() {
		return true
	}
	var corrupt *wal.CorruptionError
	return errors.As(err, &corrupt) || errors.Is(err, manifest.ErrPoisoned) ||
		errors.Is(err, wal.ErrPoisoned) || errors.Is(err, wal.ErrTruncated)
}
