package wal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// Open opens the log in opt.Dir, or makes a new one. It syncs every segment and the directory before it looks at them,
// checks the whole log in one pass, hands each frame to Options.OnFrame as it goes, and cuts off the group that a crash tore, if there
// is one. Where the log is damaged in another way it returns a *CorruptionError and changes nothing. A full disk keeps only a new log
// from being opened. It may crash anywhere and be run again. The context ends the scan and
// the preparation of spares; it does not govern the WAL afterwards. Its memory does not depend on the size of the log.
func Open(ctx context.Context, opt Options) (*WAL, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := opt.FS.MkdirAll(opt.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	list, err := listDir(opt.FS, opt.Dir)
	if err != nil {
		return nil, err
	}
	if list.repair {
		return nil, fmt.Errorf("wal: %s exists: a repair was not finished; run it again", filepath.Join(opt.Dir, repairMarker))
	}
	w := newWAL(opt)
	if err := w.chooseDirect(); err != nil {
		return nil, err
	}
	if err := syncAll(opt.FS, opt.Dir, list.segments); err != nil {
		return nil, err
	}
	if err := w.recover(ctx, list.segments); err != nil {
		return nil, err
	}
	if err := w.start(ctx, list.spares); err != nil {
		return nil, err
	}
	return w, nil
}

func newWAL(opt Options) *WAL {
	return &WAL{
		opt: opt, group: newGroup(opt.MaxGroupBytes), other: newGroup(opt.MaxGroupBytes),
		metrics: newMetrics(opt.Registerer), firstSegment: 1, syncer: newSyncer(),
	}
}

// chooseDirect decides on direct I/O.
func (w *WAL) chooseDirect() error {
	if w.opt.DirectIO == DirectOff {
		return nil
	}
	works, err := vfs.DirectWorks(w.opt.FS, w.opt.Dir, probeName)
	switch {
	case works:
		w.direct = vfs.Direct
	case vfs.IsNoSpace(err):
		w.undecided = true // the first segment that is begun will tell
	case w.opt.DirectIO == DirectOn:
		return errors.Join(errors.New("wal: the file system refuses direct I/O"), err)
	case err != nil:
		return fmt.Errorf("wal: probe for direct I/O: %w", err)
	default:
		w.opt.Logger.Info("wal_direct_io_off", "dir", w.opt.Dir)
	}
	return nil
}

// recover reads what the log holds and decides where it goes on.
func (w *WAL) recover(ctx context.Context, ids []uint64) error {
	s := scanner{fs: w.opt.FS, dir: w.opt.Dir, direct: w.opt.DirectIO != DirectOff, visit: w.opt.visit()}
	segments, err := s.scan(ctx, ids)
	if err != nil {
		return err
	}
	w.segments = segments
	w.next.Store(max(w.opt.FirstLSN, 1))
	if len(segments) == 0 {
		rand.Read(w.id[:])
		w.durable.Store(w.next.Load() - 1)
		return nil
	}
	oldest, newest := segments[0], segments[len(segments)-1]
	if err := missingBefore(oldest, w.opt.FirstLSN); err != nil {
		return err
	}
	w.id = newest.header.wal
	w.unproven = newest.frames > 0 && !newest.sealed
	w.next.Store(max(newest.last+1, w.opt.FirstLSN))
	w.durable.Store(w.next.Load() - 1)
	w.opt.Logger.Info("wal_recovered", "segments", len(segments), "first_lsn", oldest.header.first, "next_lsn", w.next.Load(),
		"sealed", newest.sealed, "torn_bytes", s.tornBytes)
	return nil
}

// start takes stock of the space, prepares the spares and starts the goroutine that owns them. A new log gets its first
// segment, so that its identity is durable before anyone sees it. Any other log can be opened on a disk that is full: it is read and cut, and
// writes return ErrNoSpace until there is space for a segment.
func (w *WAL) start(ctx context.Context, spareNames []string) error {
	w.budget = &budget{limit: w.opt.MaxSizeBytes}
	for _, s := range w.segments {
		w.budget.add(s.sizeBytes)
	}
	w.cutSlack()
	w.spares = &spares{
		fs: w.opt.FS, dir: w.opt.Dir, sizeBytes: w.opt.SegmentSizeBytes, target: w.opt.SpareSegments,
		budget: w.budget, logger: w.opt.Logger, wake: make(chan struct{}, 1),
	}
	w.spares.direct.Store(int64(w.direct))
	if err := w.spares.adopt(spareNames); err != nil {
		return err
	}
	if err := w.spares.prefill(ctx); err != nil {
		return err
	}
	if len(w.segments) == 0 {
		if err := w.roll(); err != nil {
			return err
		}
	}
	if err := w.metrics.register(w); err != nil {
		if w.file != nil {
			err = errors.Join(err, w.file.Close())
		}
		return err
	}
	w.spares.start(ctx)
	return nil
}

func (w *WAL) segmentCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.segments)
}
