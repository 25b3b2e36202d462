package wal

import (
	"fmt"
)

// TruncateBelow drops, oldest first, the segments in which every LSN is below lsn; it never drops the newest, nor one that
// a replay is reading, which a later call will. The caller vouches that every sink has made everything below lsn durable.
// Dropped segments become spares as long as there is need, and are removed otherwise. Each drop is durable before the next,
// so that a crash never leaves a gap.
func (w *WAL) TruncateBelow(lsn LSN) error {
	w.truncating.Lock()
	defer w.truncating.Unlock()
	for {
		if err := w.usable(); err != nil {
			return err
		}
		seg := w.takeOldestBelow(lsn)
		if seg == nil {
			return nil
		}
		if err := w.drop(seg); err != nil {
			return err
		}
	}
}

// takeOldestBelow takes the oldest segment off the list if it may be dropped; nil otherwise.
func (w *WAL) takeOldestBelow(lsn LSN) *segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	oldest := w.segments[0]
	if len(w.segments) < 2 || oldest.last >= lsn || oldest.readers > 0 {
		return nil
	}
	w.segments = w.segments[1:]
	return oldest
}

// drop makes a segment that is off the list a spare, or removes it.
func (w *WAL) drop(seg *segment) error {
	fsys, spare := w.opt.FS, ""
	var err error
	if seg.sizeBytes == w.opt.SegmentSizeBytes && w.spares.wanted() {
		spare = w.spares.name()
		err = fsys.Rename(seg.path, spare)
	} else {
		err = fsys.Remove(seg.path)
	}
	if err != nil {
		w.mu.Lock()
		w.segments = append([]*segment{seg}, w.segments...)
		w.mu.Unlock()
		return fmt.Errorf("wal: drop segment %s: %w", seg.name(), err)
	}
	w.metrics.fsyncs.Inc()
	if err := fsys.SyncDir(w.opt.Dir); err != nil {
		return w.poison(fmt.Errorf("drop segment %s: %w", seg.name(), err))
	}
	if spare != "" {
		w.spares.put(spare)
		return nil
	}
	w.budget.add(-seg.sizeBytes)
	w.spares.freed()
	return nil
}
