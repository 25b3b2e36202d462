package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
)

// checkpointRegularly is the checkpointer's goroutine.
func (p *Processor) checkpointRegularly(ctx context.Context) {
	ticker := time.NewTicker(p.config.CheckpointInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := p.checkpoint()
		if err == nil {
			continue
		}
		p.metrics.checkpointFailures.Inc()
		if isFatal(err) {
			p.fail(err)
			return
		}
		p.deps.Logger.Warn("checkpoint failed, will try again", "error", err)
	}
}

// checkpoint persists how far the sinks are and cuts the log accordingly. Called by one goroutine at a time.
//
// The order is the point. First the dedupe snapshot becomes durable, then the edit that puts it and the low watermark
// in force, then the log loses what they replace.
func (p *Processor) checkpoint() error {
	low := p.LowWatermark()
	if low > p.checkpointed {
		if err := p.persist(low); err != nil {
			return err
		}
		p.checkpointed = low
	}
	// Even without progress: a segment that a replay was reading may have been left over.
	if err := p.deps.Log.TruncateBelow(p.checkpointed + 1); err != nil {
		return fmt.Errorf("cut the log below LSN %d: %w", p.checkpointed+1, err)
	}
	return nil
}

func (p *Processor) persist(low uint64) error {
	started := time.Now()
	p.absorb() // what is flushed was sealed: the copy is now at or above low
	p.tableMu.Lock()
	p.snapshot = p.table.AppendSnapshot(p.snapshot[:0])
	applied := p.table.AppliedLSN()
	p.tableMu.Unlock()
	if applied < low {
		return fatalf("dedupe copy is at LSN %d, below the low watermark %d", applied, low)
	}
	snapshot, err := p.deps.Manifest.WriteSnapshot(applied, p.snapshot)
	if err != nil {
		return persistError("write the dedupe snapshot", err)
	}
	edit := manifest.Edit{LowWatermark: max(low, p.recorded), Dedupe: &snapshot, Flushed: make(map[string]manifest.LSN)}
	for _, w := range p.workers {
		// A sink that keeps its checkpoint in the manifest is ahead of us and must not be moved back.
		if flushed := w.flushedLSN(); flushed > p.deps.Manifest.Flushed(w.sink.Name()) {
			edit.Flushed[w.sink.Name()] = flushed
		}
	}
	if err := p.deps.Manifest.Commit(edit); err != nil {
		return persistError("commit the low watermark", err)
	}
	p.recorded = edit.LowWatermark
	p.metrics.checkpointSeconds.Observe(time.Since(started).Seconds())
	p.metrics.snapshotBytes.Set(float64(len(p.snapshot)))
	return nil
}

// persistError marks what the manifest does not recover from as fatal.
func persistError(what string, err error) error {
	if errors.Is(err, manifest.ErrNoSpace) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fatalf("%s: %w", what, err)
}
