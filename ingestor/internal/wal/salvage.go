package wal

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// salvage is the list of all frames of a damaged log that are legible and belong to it, in the order of their LSNs.
//
// A segment's id is used once and never again, so a valid frame with the id of the file that it is in belongs to it, whatever
// became of the header. Frames at or above the first LSN of the segment that follows do not: they are what is left of a group
// that a crash tore, and their LSNs were given out again.
type salvage struct {
	opt           *Options
	wal           [16]byte
	maxGroupBytes int
	frames        []salvaged
	headers       []segmentHeader // the legible ones
	lostBytes     int64
	lostFrames    int
}

// salvaged is a legible frame and where it is.
type salvaged struct {
	segment uint64
	offset  int64
	header  frameHeader
}

func newSalvage(ctx context.Context, opt Options, ids []uint64) (*salvage, error) {
	s := &salvage{opt: &opt}
	bound := ^LSN(0)
	perSegment := make([][]salvaged, len(ids))
	for i := len(ids) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if i == len(ids)-1 {
			bound = s.tornAt(ctx, ids[i])
		}
		frames, first, err := s.read(ids[i], bound)
		if err != nil {
			return nil, fmt.Errorf("wal: repair: %w", err)
		}
		perSegment[i] = frames
		bound = min(bound, first)
	}
	for _, frames := range perSegment {
		s.frames = append(s.frames, frames...)
	}
	s.order()
	if len(s.headers) == 0 {
		s.wal = opt.ID
	}
	if s.wal == [16]byte{} {
		rand.Read(s.wal[:])
	}
	return s, nil
}

// tornAt returns the LSN at which the newest segment ends in a torn group; the highest LSN there is where it does not.
func (s *salvage) tornAt(ctx context.Context, id uint64) LSN {
	scan := scanner{fs: s.opt.FS, dir: s.opt.Dir}
	seg, err := scan.header(id)
	if err == nil {
		err = scan.check(ctx, seg, nil)
	}
	if err != nil {
		return ^LSN(0)
	}
	return seg.last + 1
}

// read lists the legible frames of a segment below bound, and returns its first LSN; bound where that is not known.
func (s *salvage) read(id uint64, bound LSN) (frames []salvaged, first LSN, err error) {
	f, size, err := openForReading(s.opt, id)
	if err != nil {
		return nil, 0, err
	}
	first = bound
	var b [segmentHeaderBytes]byte
	n, err := readFull(f, b[:], 0)
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	var h segmentHeader
	if h.decode(b[:n]) == nil && h.id == id {
		s.headers, s.wal, first = append(s.headers, h), h.wal, min(first, h.first)
		s.maxGroupBytes = max(s.maxGroupBytes, int(h.maxGroupBytes))
	}
	var w window
	w.reset(f, size)
	epoch, maxBytes := h.epoch, h.maxGroupBytes
	if h.id != id {
		maxBytes = size
		if epoch, err = commonEpoch(&w, id, size); err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
	}
	at := int64(segmentHeaderBytes)
	err = w.search(id, &epoch, segmentHeaderBytes, size, maxBytes, func(found found) error {
		frame := &found.header
		if frame.last() >= bound {
			return nil
		}
		if !found.intact {
			s.lostFrames++
			return nil
		}
		s.lostBytes += max(0, found.offset-at)
		at = found.offset + int64(frameBytes(int(frame.payloadBytes)))
		if frame.flags&flagLast != 0 {
			at = alignBlock(at)
		}
		s.maxGroupBytes = max(s.maxGroupBytes, alignBlock(frameBytes(int(frame.payloadBytes))))
		if frame.kind == kindRecords {
			first = min(first, frame.first)
			frames = append(frames, salvaged{id, found.offset, *frame})
		}
		return nil
	})
	return frames, first, errors.Join(err, f.Close())
}

// commonEpoch returns the epoch of most intact frames of a segment whose header is not legible. A client may have sent bytes
// that look like a frame, but not more of them than there are true ones around.
func commonEpoch(w *window, id uint64, size int64) (common uint64, err error) {
	count := map[uint64]int{}
	err = w.search(id, nil, segmentHeaderBytes, size, size, func(f found) error {
		if f.intact {
			count[f.header.epoch]++
		}
		return nil
	})
	for epoch, n := range count {
		if n > count[common] || n == count[common] && epoch > common {
			common = epoch
		}
	}
	return common, err
}

// order sorts the frames by LSN and drops those that a damaged place holds a second time.
func (s *salvage) order() {
	slices.SortStableFunc(s.frames, func(a, b salvaged) int { return cmp.Compare(a.header.first, b.header.first) })
	next := LSN(0)
	s.frames = slices.DeleteFunc(s.frames, func(f salvaged) bool {
		if f.header.first < next {
			return true
		}
		next = f.header.last() + 1
		return false
	})
}

// first is the LSN at which the new log begins: where the old one did, as far as that is known, so that what is lost at its
// beginning is a gap in the log and not missing from it.
func (s *salvage) first() LSN {
	begin := s.began()
	switch {
	case len(s.frames) == 0:
		return max(begin, s.opt.FirstLSN, 1)
	case begin == 0:
		return s.frames[0].header.first
	}
	return min(begin, s.frames[0].header.first)
}

// began returns the first LSN that the old log held, or that a sink needs from it; 0 where that is not known.
func (s *salvage) began() LSN {
	if len(s.headers) == 0 {
		return s.opt.FirstLSN
	}
	oldest := s.headers[len(s.headers)-1] // they were read from the newest to the oldest
	if first := s.opt.FirstLSN; first > 0 && oldest.prev.last >= first {
		return first
	}
	return oldest.first
}

// copyTo appends all frames to a WAL, which skips the LSNs that are lost.
func (s *salvage) copyTo(ctx context.Context, w *WAL) error {
	var win window
	var f vfs.File
	open := uint64(0)
	defer func() {
		if f != nil {
			_ = f.Close() // it was only read
		}
	}()
	for _, frame := range s.frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		if frame.segment != open {
			if f != nil {
				if err := f.Close(); err != nil {
					return err
				}
			}
			var err error
			if f, err = s.opt.FS.OpenFile(filepath.Join(s.opt.Dir, segmentName(frame.segment)), os.O_RDONLY, 0); err != nil {
				return err
			}
			win.reset(f, windowBytes)
			open = frame.segment
		}
		b, err := win.view(frame.offset+frameHeaderBytes, int(frame.header.payloadBytes))
		if err != nil {
			return err
		}
		if err := appendAt(w, frame.header.first, Entry{Records: frame.header.records, Parts: [2][]byte{b, nil}}); err != nil {
			return err
		}
	}
	return w.Sync()
}

// appendAt appends an entry whose LSN is known.
func appendAt(w *WAL, first LSN, e Entry) error {
	if first != w.NextLSN() {
		if err := w.skipTo(first); err != nil {
			return err
		}
	}
	_, err := w.Append(e)
	if errors.Is(err, ErrGroupFull) {
		if err = w.Sync(); err == nil {
			_, err = w.Append(e)
		}
	}
	return err
}

// tell writes what was kept and what is lost into a report.
func (s *salvage) tell(r *RepairReport) {
	next := s.began()
	for _, f := range s.frames {
		if next > 0 && f.header.first > next {
			r.Lost = append(r.Lost, s.lost(LSNRange{next, f.header.first - 1})...)
		}
		next = f.header.last() + 1
		r.KeptFrames++
		r.KeptRecords += uint64(f.header.records)
		r.LastLSN = f.header.last()
	}
	for _, h := range s.headers {
		if h.prev.last >= next {
			r.Lost = append(r.Lost, LSNRange{next, h.prev.last})
			next = h.prev.last + 1
		}
	}
	r.LostBytes, r.LostFrames = s.lostBytes, s.lostFrames
}

// lost takes from a gap the LSNs that were never given out.
func (s *salvage) lost(gap LSNRange) []LSNRange {
	for _, h := range s.headers {
		unused := LSNRange{h.prev.last + 1, h.first - 1}
		if h.prev.segment == 0 || unused.First > unused.Last || unused.First > gap.Last || unused.Last < gap.First {
			continue
		}
		var rest []LSNRange
		if unused.First > gap.First {
			rest = append(rest, s.lost(LSNRange{gap.First, unused.First - 1})...)
		}
		if unused.Last < gap.Last {
			rest = append(rest, s.lost(LSNRange{unused.Last + 1, gap.Last})...)
		}
		return rest
	}
	return []LSNRange{gap}
}
