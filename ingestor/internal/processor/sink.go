package processor

import (
	"context"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

// Sink stores generations. Each sink is called from one goroutine at a time.
type Sink interface {
	// Name is unique among the sinks and stable over restarts: the manifest keeps checkpoints under it.
	Name() string
	// Flushed returns the sink's durable checkpoint: the highest log position up to which it has stored everything; 0
	// for nothing. It may fail while a database is down.
	Flushed(ctx context.Context) (uint64, error)
	// Flush stores all records of g and moves the checkpoint from previous to g.Last, both or neither. On nil both are
	// durable. g.First is always previous+1. Where the stored checkpoint is not previous it must change nothing and return
	// an error: the outcome of an earlier attempt was not known, and the processor asks Flushed before it goes on.
	//
	// g's tables are sorted. g may be a gap: then there is nothing to store, and only the checkpoint moves.
	//
	// g is the processor's; the sink must not keep anything of it after it returns.
	//
	// An error, or one that it wraps, with a method Fatal() bool that returns true stops the server; after any other
	// one the processor tries again, for ever.
	Flush(ctx context.Context, g *memtable.Generation, previous uint64) error
}
