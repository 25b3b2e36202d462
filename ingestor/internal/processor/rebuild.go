package processor

import (
	"context"
	"fmt"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// Rebuild makes the dedupe table anew at start-up, from the last snapshot and the log above it. It sees the log while that is checked, so
// that a start reads it once:
//
//	NewRebuild ──> wal.Open(OnFrame: Frame) ──> Processor.Recover
//
// Nothing that it was told counts before Open has returned nil. One goroutine at a time.
type Rebuild struct {
	table *dedupe.Table
	// snapshot is where the snapshot stands, seen the last record that Frame was given.
	snapshot, seen uint64
	frame          frame
}

// NewRebuild reads the last snapshot of the dedupe table.
func NewRebuild(m Manifest, maxProducers int) (*Rebuild, error) {
	contents, lsn, err := m.ReadSnapshot()
	if err != nil {
		return nil, fmt.Errorf("read the dedupe snapshot: %w", err)
	}
	table := dedupe.New(maxProducers)
	if contents != nil {
		if table, err = dedupe.DecodeSnapshot(contents, maxProducers); err != nil {
			return nil, err
		}
	}
	if table.AppliedLSN() != lsn {
		return nil, fmt.Errorf("the dedupe snapshot stands at LSN %d, the manifest says %d", table.AppliedLSN(), lsn)
	}
	return &Rebuild{table: table, snapshot: lsn}, nil
}

// Frame applies a frame of the log that stands above the snapshot. Frames come in the order of the log.
func (r *Rebuild) Frame(w wal.Frame) error {
	r.seen = w.Last()
	switch {
	case w.Last() <= r.snapshot:
		return nil
	case w.First <= r.snapshot:
		return fatalf("the dedupe snapshot at LSN %d stands within the batch %d-%d", r.snapshot, w.First, w.Last())
	}
	if err := r.frame.parse(&w); err != nil {
		return err
	}
	if stamp := r.frame.stamp(&w); stamp != nil {
		r.table.Apply(stamp)
	}
	return nil
}

// complete returns the table as of the log's end. What the log holds and Frame has not seen is read again.
func (r *Rebuild) complete(ctx context.Context, log Log) (*dedupe.Table, error) {
	first, end := log.FirstLSN(), log.DurableLSN()
	switch {
	case r.snapshot > end:
		return nil, fmt.Errorf("the dedupe snapshot at LSN %d and the log that ends at %d do not belong together", r.snapshot, end)
	case r.snapshot+1 < first:
		return nil, fmt.Errorf("between the dedupe snapshot at LSN %d and the log's begin at %d records are lost", r.snapshot, first)
	}
	if from := max(r.snapshot, r.seen) + 1; from <= end {
		if err := log.Replay(ctx, from, r.Frame); err != nil {
			return nil, fmt.Errorf("replay the log above LSN %d: %w", from-1, err)
		}
	}
	r.table.Advance(end)
	return r.table, nil
}
