package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Replay calls fn, in order, for every frame that is durable when Replay is called and whose last LSN is at least from; 0
// means all there are. It may run beside appends and other replays; the segments that it reads are not dropped meanwhile.
// It uses one file descriptor of its own and memory for one window or one frame, whichever is larger. It ends with the
// first error of fn, with ErrTruncated if records at or above from have been dropped, with the context's error, or with a
// *CorruptionError.
func (w *WAL) Replay(ctx context.Context, from LSN, fn func(Frame) error) error {
	pinned, spans, err := w.pin(from)
	if err != nil {
		return err
	}
	defer w.unpin(pinned)
	var c cursor
	for _, span := range spans {
		if err := w.replaySegment(ctx, &c, span, from, fn); err != nil {
			return err
		}
	}
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

// replaySegment reads a segment up to the end that is known to be durable.
func (w *WAL) replaySegment(ctx context.Context, c *cursor, s segment, from LSN, fn func(Frame) error) error {
	f, err := w.opt.FS.OpenFile(s.path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("wal: replay: %w", err)
	}
	c.reset(f, s.header)
	err = replayFrames(ctx, c, &s, from, fn)
	return errors.Join(err, f.Close())
}

func replayFrames(ctx context.Context, c *cursor, s *segment, from LSN, fn func(Frame) error) error {
	for c.offset < s.endBytes {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := c.offset
		h, payload, err := c.next()
		if bad, ok := errors.AsType[*badFrame](err); ok {
			return s.corrupt(at, bad.reason)
		}
		if err != nil {
			return fmt.Errorf("wal: replay segment %s: %w", s.name(), err)
		}
		if h.kind != kindRecords || h.last() < from {
			continue
		}
		frame := Frame{First: h.first, Records: h.records, Payload: payload, Position: Position{h.segment, at}}
		if err := fn(frame); err != nil {
			return err
		}
	}
	return nil
}
