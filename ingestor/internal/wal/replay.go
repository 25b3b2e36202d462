package wal

import (
	"context"
	"errors"
	"fmt"
)

// maxStops bounds the list of places where replays ended: one for each reader that goes on where it stopped.
const maxStops = 4

// stop is where a replay ended: the cursor's state before the frame that begins with the LSN after last, if there is one.
type stop struct {
	segment uint64
	progress
}

// Replay calls fn, in order, for every frame that is durable when Replay is called and whose last LSN is at least from; 0
// means all there are. It may run beside appends and other replays; the segments that it reads are not dropped meanwhile.
// It reads ahead, past the page cache where the log is written so, with a goroutine for each segment, which it ends. It uses two file
// descriptors and memory for four blocks of up to 1 MiB and one window or one frame, whichever is larger. It ends with the first
// error of fn, with ErrTruncated if records at or above from have been dropped, with the context's error, or with a *CorruptionError.
//
// A replay that begins with the frame at which fn ended an earlier one, or after the end that an earlier one reached, goes on there. Any
// other one reads the segment that holds from from its beginning, because only the chain of frames proves a frame.
func (w *WAL) Replay(ctx context.Context, from LSN, fn func(Frame) error) error {
	pinned, spans, err := w.pin(from)
	if err != nil || len(spans) == 0 {
		return err
	}
	defer w.unpin(pinned)
	r := replay{wal: w, direct: w.opt.DirectIO != DirectOff, from: from, fn: fn}
	resumed := w.takeStop(spans[0].header.id, from)
	for i := range spans {
		if err := r.segment(ctx, &spans[i], spans[i+1:], resumed); err != nil {
			return err
		}
		resumed = nil
	}
	w.noteStop(stop{spans[len(spans)-1].header.id, r.cursor.progress})
	return nil
}

// pin returns the segments that hold records from an LSN on, twice: to be unpinned later, and copied as they are now.
func (w *WAL) pin(from LSN) (pinned []*segment, spans []segment, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if oldest := &w.segments[0].header; from > 0 && from < oldest.first && from <= oldest.prev.last {
		return nil, nil, fmt.Errorf("%w: LSN %d is asked for, %d is the first", ErrTruncated, from, oldest.first)
	}
	for _, s := range w.segments {
		if s.last >= from && s.frames > 0 {
			s.readers++
			pinned, spans = append(pinned, s), append(spans, *s)
		}
	}
	return pinned, spans, nil
}

func (w *WAL) unpin(pinned []*segment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range pinned {
		s.readers--
	}
}

// takeStop returns, and forgets, the place where a replay that now goes on with from ended; nil where there is none.
func (w *WAL) takeStop(segment uint64, from LSN) *progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.stops {
		if s.segment == segment && s.last+1 == from {
			w.stops = append(w.stops[:i], w.stops[i+1:]...)
			return &s.progress
		}
	}
	return nil
}

// noteStop remembers where a replay ended, in place of the one that was noted longest ago if there are too many.
func (w *WAL) noteStop(s stop) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.stops) == maxStops {
		w.stops = append(w.stops[:0], w.stops[1:]...)
	}
	w.stops = append(w.stops, s)
}

// replay is one call of Replay.
type replay struct {
	wal    *WAL
	direct bool
	from   LSN
	fn     func(Frame) error
	cursor cursor
	blocks blockPool
	// upcoming is the segment after the one that is being read; nil where there is none.
	upcoming *ahead
}

// segment reads s up to the end that is known to be durable, from where an earlier replay ended.
func (r *replay) segment(ctx context.Context, s *segment, after []segment, resumed *progress) (err error) {
	read := r.upcoming
	r.upcoming = nil
	offset := int64(segmentHeaderBytes)
	if resumed != nil {
		offset = resumed.offset
	}
	if read == nil {
		if read, err = r.begin(s, offset); err != nil {
			return err
		}
	}
	r.cursor.reset(read, s.header)
	if resumed != nil {
		r.cursor.progress = *resumed
	}
	err = errors.Join(r.frames(ctx, s, after), read.close())
	if err != nil && r.upcoming != nil {
		err = errors.Join(err, r.upcoming.close())
	}
	return err
}

func (r *replay) begin(s *segment, offset int64) (*ahead, error) {
	a, err := openAhead(r.wal.opt.FS, s.path, offset, s.endBytes, r.direct, &r.blocks)
	if err != nil {
		return nil, fmt.Errorf("wal: replay: %w", err)
	}
	return a, nil
}

// frames calls fn for the frames from the cursor on. Near the end of s the disk begins to read the segment after it: not before, because
// most replays end early.
func (r *replay) frames(ctx context.Context, s *segment, after []segment) (err error) {
	c := &r.cursor
	for c.offset < s.endBytes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.upcoming == nil && len(after) > 0 && s.endBytes-c.offset <= aheadBlocks*aheadBlockBytes {
			if r.upcoming, err = r.begin(&after[0], segmentHeaderBytes); err != nil {
				return err
			}
		}
		before := c.progress
		h, payload, err := c.next()
		if bad, ok := errors.AsType[*badFrame](err); ok {
			return s.corrupt(before.offset, bad.reason)
		}
		if err != nil {
			return fmt.Errorf("wal: replay segment %s: %w", s.name(), err)
		}
		if h.kind != kindRecords || h.last() < r.from {
			continue
		}
		if err := r.fn(h.frame(payload, before.offset)); err != nil {
			r.wal.noteStop(stop{s.header.id, before})
			return err
		}
	}
	return nil
}
