package processor

import (
	"context"
	"fmt"
	"slices"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

// Recovered is what Recover found.
type Recovered struct {
	// Dedupe is the table as of the log's end, for the committer, who owns it.
	Dedupe *dedupe.Table
	// CommittedLSN is the position up to which all sinks have flushed, as far as they could be asked.
	CommittedLSN uint64
	// EndLSN is the last record in the log.
	EndLSN uint64
}

// Recover finds out where the sinks and the log stand: it completes the dedupe table, of which the rebuild has what it saw while the log
// was opened, and makes everything above the sinks' checkpoints their backlog. The data stays in the log until a
// worker reads it, so that memory is bounded however long the log is.
//
// It refuses (an error) where log, snapshot and sinks do not fit together. A sink that does not answer in time is
// taken to be where the manifest last saw it; its own word counts once it answers.
func (p *Processor) Recover(ctx context.Context, rebuild *Rebuild) (*Recovered, error) {
	end := p.deps.Log.DurableLSN()
	table, err := rebuild.complete(ctx, p.deps.Log)
	if err != nil {
		return nil, err
	}
	for _, w := range p.workers {
		if err := w.locate(ctx, end); err != nil {
			return nil, fmt.Errorf("sink %s: %w", w.sink.Name(), err)
		}
	}
	low, high := p.bounds()
	p.low, p.table, p.recorded = low, table, p.deps.Manifest.State().LowWatermark
	p.backlog.reset(low+1, end)
	p.backlog.flushedUpTo(low, high)
	committers, err := dedupe.DecodeSnapshot(table.AppendSnapshot(nil), p.config.MaxProducers)
	if err != nil {
		return nil, fmt.Errorf("copy the dedupe table: %w", err)
	}
	p.deps.Logger.Info("recovered", "end_lsn", end, "low_watermark", low, "pending_records", end-low,
		"producers", table.Producers())
	return &Recovered{Dedupe: committers, CommittedLSN: low, EndLSN: end}, nil
}

// locate finds the sink's checkpoint at start-up.
func (w *worker) locate(ctx context.Context, end uint64) error {
	mirrored := w.p.deps.Manifest.Flushed(w.sink.Name())
	ctx, cancel := context.WithTimeout(ctx, w.p.config.StartTimeout)
	defer cancel()
	stored, err := w.sink.Flushed(ctx)
	if err != nil {
		if isFatal(err) {
			return err
		}
		w.failed(err)
		w.p.deps.Logger.Warn("sink does not answer, its data stays in the log", "sink", w.sink.Name(),
			"flushed_lsn", mirrored, "error", err)
		stored = mirrored
	} else {
		w.known = true
	}
	startNow := slices.Contains(w.p.config.StartNow, w.sink.Name())
	if startNow && w.known {
		mirrored = 0 // it may have been replaced by an empty one
	}
	if err := plausible(stored, mirrored, end); err != nil {
		return err
	}
	if first := w.p.deps.Log.FirstLSN(); stored < end && stored+1 < first {
		switch {
		case !startNow:
			return fatalf("%w: it has everything up to LSN %d, and the log begins at %d, so that %d to %d would be missing. It was added, or "+
				"lost its data, after the log had been cut. To leave these out and go on, start the server with --%s.start=now",
				ErrMisplaced, stored, first, stored+1, first-1, w.sink.Name())
		case !w.known:
			return fmt.Errorf("it must answer to be started at LSN %d: %w", first, err)
		}
		if err := w.skip(stored, first-1); err != nil {
			return err
		}
		stored = first - 1
	}
	w.flushed = stored
	return nil
}

// skip moves the sink's checkpoint past records that the log no longer holds.
func (w *worker) skip(stored, last uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), w.p.config.AskTimeout)
	defer cancel()
	gap := memtable.NewGap(stored+1, last)
	defer gap.Release()
	if err := w.sink.Flush(ctx, gap, stored); err != nil {
		return fmt.Errorf("leave out LSN %d to %d: %w", stored+1, last, err)
	}
	w.p.deps.Logger.Warn("the sink was told to start now: it will never have these records", "sink", w.sink.Name(),
		"first_lsn", stored+1, "last_lsn", last)
	return nil
}
