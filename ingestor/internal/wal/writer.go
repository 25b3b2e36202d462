package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// newest is the last segment. Its identity is only changed by the goroutine that appends.
func (w *WAL) newest() *segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.segments[len(w.segments)-1]
}

// fits reports whether a group of n bytes has room in the newest segment, with one block left for the seal.
func (w *WAL) fits(n int) bool {
	s := w.newest()
	return alignBlock(s.endBytes)+int64(n)+vfs.BlockBytes <= s.header.sizeBytes
}

// discard drops the current group and takes its LSNs back.
func (w *WAL) discard() {
	w.next.Store(w.next.Load() - w.group.records)
	w.group.reset()
}

// writeGroup writes and syncs a group behind the newest segment's end, publishes it, and empties it.
//
// Invariants: the group was complete before its bytes were stamped, and stamped before the sync began, so that an ack after
// it covers nothing that came later. Everything before the group is durable already: its frames say so. The write touches
// no block that holds an earlier group.
func (w *WAL) writeGroup(g *group, stats GroupStats) error {
	seg := w.newest()
	began := time.Now()
	b, checksum := g.stamp(&seg.header, seg.endBytes, seg.checksum, w.durable.Load())
	if _, err := w.file.WriteAt(b, seg.endBytes); err != nil {
		return w.poison(fmt.Errorf("write segment %s: %w", seg.name(), err))
	}
	wrote := time.Now()
	if err := w.datasync(w.file); err != nil {
		return w.poison(fmt.Errorf("sync segment %s: %w", seg.name(), err))
	}
	stats.Frames, stats.Records, stats.Bytes = g.frames, g.records, len(b)
	stats.Write, stats.Datasync = wrote.Sub(began), time.Since(wrote)

	w.mu.Lock()
	seg.endBytes += int64(len(b))
	seg.last, seg.checksum = g.last, checksum
	seg.frames += int64(g.frames)
	w.mu.Unlock()
	w.durable.Store(g.last)
	w.metrics.wrote(&stats)
	if stats.Records > 0 {
		w.opt.OnGroup(stats)
	}
	g.reset()
	return nil
}

// mark writes a group of one frame that holds nothing. The current group must be empty.
func (w *WAL) mark(kind uint8) error {
	if err := w.group.add(kind, w.next.Load(), 0, [2][]byte{}); err != nil {
		return err
	}
	w.unproven = false
	return w.writeGroup(w.group, GroupStats{})
}

func (w *WAL) datasync(f vfs.File) error {
	w.metrics.fsyncs.Inc()
	return f.Datasync()
}

// roll begins a new segment, whose first LSN is that of the current group. Everything before must be durable. ErrNoSpace
// means that there is no new segment and nothing has changed; after any other failure the WAL is poisoned.
func (w *WAL) roll() error {
	path, err := w.spares.take()
	if errors.Is(err, ErrNoSpace) {
		return err
	}
	if err != nil {
		return w.poison(err)
	}
	seg := w.nextSegment()
	file, err := w.begin(seg, path)
	if err != nil {
		return err
	}
	if w.file != nil {
		if err := w.file.Close(); err != nil {
			w.opt.Logger.Warn("wal_close_failed", "segment", seg.header.prev.segment, "error", err)
		}
	}
	w.file, w.unproven = file, false
	w.mu.Lock()
	w.segments = append(w.segments, seg)
	w.mu.Unlock()
	w.spares.poke()
	w.cutSlack()
	return nil
}

// skipTo ends the segment so that the next entry's first LSN is lsn, which must be above NextLSN. What was appended is synced.
func (w *WAL) skipTo(lsn LSN) error {
	if err := w.Sync(); err != nil {
		return err
	}
	file := w.file
	w.file = nil
	w.next.Store(lsn)
	w.durable.Store(lsn - 1)
	if file == nil {
		return nil
	}
	return file.Close()
}

// nextSegment describes the segment that follows the newest.
func (w *WAL) nextSegment() *segment {
	h := segmentHeader{
		wal:           w.id,
		id:            w.firstSegment,
		first:         w.next.Load() - w.group.records,
		sizeBytes:     w.opt.SegmentSizeBytes,
		maxGroupBytes: int64(w.opt.MaxGroupBytes),
	}
	var epoch [8]byte
	rand.Read(epoch[:])
	h.epoch = binary.LittleEndian.Uint64(epoch[:])
	w.mu.Lock()
	if n := len(w.segments); n > 0 {
		h.prev = w.segments[n-1].tail()
		h.id = h.prev.segment + 1
	}
	w.mu.Unlock()
	return &segment{
		header:    h,
		path:      filepath.Join(w.opt.Dir, segmentName(h.id)+w.suffix),
		sizeBytes: h.sizeBytes,
		endBytes:  segmentHeaderBytes,
		last:      h.first - 1,
	}
}

// begin turns the spare at path into the segment: header -> fdatasync -> rename -> fsync of the directory. In this order a
// file with a segment's name has a durable header, whatever happens. Lack of space before the rename costs the spare and
// nothing else.
func (w *WAL) begin(seg *segment, path string) (vfs.File, error) {
	header := vfs.AlignedBuffer(segmentHeaderBytes)
	seg.header.encode(header)
	seg.checksum = seg.header.checksum

	file, err := w.writeHeader(path, header)
	if file == nil {
		return nil, w.poison(fmt.Errorf("open spare: %w", err))
	}
	if err == nil {
		if err := w.datasync(file); err != nil {
			return nil, errors.Join(w.poison(fmt.Errorf("sync segment header: %w", err)), file.Close())
		}
		err = w.opt.FS.Rename(path, seg.path)
	}
	if vfs.IsNoSpace(err) {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrNoSpace, err), file.Close(), w.dropSpare(path))
	}
	if err == nil {
		w.metrics.fsyncs.Inc()
		err = w.opt.FS.SyncDir(w.opt.Dir)
	}
	if err != nil {
		return nil, errors.Join(w.poison(fmt.Errorf("begin segment %s: %w", seg.name(), err)), file.Close())
	}
	return file, nil
}

// writeHeader opens a spare and writes the header into it. Where direct I/O is undecided this decides it. The file is nil where it cannot
// be opened.
func (w *WAL) writeHeader(path string, header []byte) (vfs.File, error) {
	if !w.undecided {
		return w.openSpare(path, header, w.direct)
	}
	file, err := w.openSpare(path, header, vfs.Direct)
	switch {
	case err == nil:
		w.undecided, w.direct = false, vfs.Direct
		w.spares.direct.Store(vfs.Direct)
	case vfs.RefusesDirect(err) && w.opt.DirectIO == DirectAuto:
		w.undecided = false
		w.opt.Logger.Info("wal_direct_io_off", "dir", w.opt.Dir)
		if file != nil {
			if err := file.Close(); err != nil {
				return nil, err
			}
		}
		return w.openSpare(path, header, 0)
	}
	return file, err
}

func (w *WAL) openSpare(path string, header []byte, direct int) (vfs.File, error) {
	file, err := w.opt.FS.OpenFile(path, os.O_RDWR|direct, 0)
	if err != nil {
		return nil, err
	}
	_, err = file.WriteAt(header, 0)
	return file, err
}

// dropSpare removes a spare that take returned.
func (w *WAL) dropSpare(path string) error {
	if err := w.opt.FS.Remove(path); err != nil {
		return err
	}
	w.budget.add(-w.opt.SegmentSizeBytes)
	return nil
}

// cutSlack gives back the space after the end of segments that were not filled: those that an earlier run, or its crash,
// left as the newest. Their successors say where they end, so nothing depends on it, and a failure is only logged.
func (w *WAL) cutSlack() {
	w.mu.Lock()
	var slack []*segment
	for _, s := range w.segments[:max(0, len(w.segments)-1)] {
		if s.sizeBytes-s.endBytes > s.header.maxGroupBytes+2*vfs.BlockBytes {
			s.readers++
			slack = append(slack, s)
		}
	}
	w.mu.Unlock()
	for _, s := range slack {
		end := alignBlock(s.endBytes)
		f, err := w.opt.FS.OpenFile(s.path, os.O_RDWR, 0)
		if err == nil {
			err = errors.Join(f.Truncate(end), f.Close())
		}
		if err != nil {
			w.opt.Logger.Warn("wal_cut_failed", "segment", s.name(), "error", err)
		}
		w.mu.Lock()
		if s.readers--; err == nil {
			w.budget.add(end - s.sizeBytes)
			s.sizeBytes = end
		}
		w.mu.Unlock()
	}
}
