package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// windowBytes is how much is read at a time: large enough for the disk to stream, small enough to stay in the CPU's cache.
const windowBytes = 1 << 20

// readFull reads from f at offset until b is full or the file ends.
func readFull(f io.ReaderAt, b []byte, offset int64) (n int, err error) {
	n, err = f.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// window is a moving view of a file that is read from its beginning to its end. Its memory is windowBytes, or the file's size
// where that is less, or the largest view asked for.
type window struct {
	f      io.ReaderAt
	size   int64  // of the file
	buf    []byte // what is in view
	offset int64  // of buf[0] in the file
	mem    []byte
}

// view returns the n bytes at offset, fewer only where the file ends. They are valid until the next call.
func (w *window) view(offset int64, n int) ([]byte, error) {
	if offset < w.offset || offset+int64(n) > w.offset+int64(len(w.buf)) {
		if err := w.load(offset, n); err != nil {
			return nil, err
		}
	}
	b := w.buf[min(offset-w.offset, int64(len(w.buf))):]
	return b[:min(n, len(b))], nil
}

// rest returns all bytes in view from offset on, after seeing to it that there are at least n, unless the file ends.
func (w *window) rest(offset int64, n int) ([]byte, error) {
	if _, err := w.view(offset, n); err != nil {
		return nil, err
	}
	return w.buf[min(offset-w.offset, int64(len(w.buf))):], nil
}

// load brings at least n bytes at offset into view, and keeps what of them is there already.
func (w *window) load(offset int64, n int) error {
	kept := 0
	if skip := offset - w.offset; skip >= 0 && skip < int64(len(w.buf)) {
		kept = len(w.buf) - int(skip)
	}
	mem := w.mem
	if len(mem) < n {
		mem = make([]byte, max(int64(n), min(windowBytes, w.size)))
	}
	copy(mem, w.buf[len(w.buf)-kept:])
	w.mem, w.offset, w.buf = mem, offset, mem[:kept]
	read, err := readFull(w.f, mem[kept:], offset+int64(kept))
	w.buf = mem[:kept+read]
	return err
}

// reset points the window at another file, of the given size.
func (w *window) reset(f io.ReaderAt, size int64) { w.f, w.size, w.buf, w.offset = f, size, nil, 0 }

// badFrame says why there is no valid frame where the cursor stands.
type badFrame struct{ reason string }

func (e *badFrame) Error() string { return e.reason }

// cursor reads the frames of one segment in order and holds each one to what must be true of it.
type cursor struct {
	window window
	header segmentHeader
	progress
}

// progress is how far a cursor is in its segment.
type progress struct {
	offset int64 // of the next frame
	group  int64 // offset of the group that the next frame belongs to
	last   LSN
	chain  uint32
	frames int64
	sealed bool
}

// reset points the cursor at the first frame of a segment.
func (c *cursor) reset(f io.ReaderAt, h segmentHeader) {
	c.window.reset(f, h.sizeBytes)
	c.header = h
	c.progress = progress{offset: segmentHeaderBytes, group: segmentHeaderBytes, last: h.first - 1, chain: h.checksum}
}

// next reads the frame at the cursor and moves behind it. The frame is valid until the next call. The error is a *badFrame,
// and the cursor stays, where there is no valid frame; any other error comes from the disk.
func (c *cursor) next() (h frameHeader, payload []byte, err error) {
	b, err := c.window.view(c.offset, frameHeaderBytes)
	if err != nil {
		return h, nil, err
	}
	if len(b) < frameHeaderBytes {
		return h, nil, &badFrame{"end of file"}
	}
	if !h.decode(b) {
		return h, nil, &badFrame{"no frame header"}
	}
	if reason := c.misfit(&h); reason != "" {
		return h, nil, &badFrame{reason}
	}
	size := frameBytes(int(h.payloadBytes))
	if b, err = c.window.view(c.offset, size); err != nil {
		return h, nil, err
	}
	if len(b) < size {
		return h, nil, &badFrame{"frame goes beyond the end of the file"}
	}
	if frameChecksum(b) != h.checksum {
		return h, nil, &badFrame{"frame checksum mismatch"}
	}
	c.accept(&h, size)
	return h, b[frameHeaderBytes : frameHeaderBytes+int(h.payloadBytes)], nil
}

// misfit says why a frame cannot be the next one; empty where it can.
func (c *cursor) misfit(h *frameHeader) string {
	end := c.offset + int64(frameBytes(int(h.payloadBytes)))
	switch {
	case h.segment != c.header.id || h.epoch != c.header.epoch:
		return "frame of an earlier use of the file"
	case c.sealed:
		return "frame after the seal"
	case h.chain != c.chain:
		return "chain to the frame before is broken"
	case h.first != c.last+1:
		return fmt.Sprintf("first LSN is %d, not %d", h.first, c.last+1)
	case h.groupOffset != uint64(c.group):
		return fmt.Sprintf("group offset is %d, not %d", h.groupOffset, c.group)
	case h.durable >= h.first:
		return "durable LSN is not below the first"
	case end > c.group+c.header.maxGroupBytes || end > c.header.sizeBytes:
		return "frame is longer than its group or segment may be"
	}
	return ""
}

func (c *cursor) accept(h *frameHeader, size int) {
	c.offset += int64(size)
	if h.flags&flagLast != 0 {
		c.offset = alignBlock(c.offset)
		c.group = c.offset
	}
	c.last, c.chain = h.last(), h.checksum
	c.frames++
	c.sealed = h.kind == kindSeal
}

// found is a frame that search came upon, whatever is around it.
type found struct {
	header frameHeader
	offset int64
	// intact says that the checksum is right; otherwise only the header is legible.
	intact bool
}

// search looks, at every place where a frame may begin, from offset up to end, for frames of one segment, and calls fn for
// each. The epoch, which no one but the writer knew, makes a header that has it genuine even where the checksum is wrong; any
// epoch will do where it is nil. It goes on behind a frame that is intact.
//
// A frame that says it is longer than maxBytes, or that reaches beyond end, is not looked at any further than its header: its length may
// be what is corrupt, and memory is taken by it.
func (w *window) search(id uint64, epoch *uint64, offset, end, maxBytes int64, fn func(found) error) error {
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	for offset < end {
		b, err := w.rest(offset, frameHeaderBytes)
		if err != nil || len(b) < frameHeaderBytes {
			return err
		}
		at := nextFrameStart(b, magic)
		if at < 0 {
			offset += int64(len(b) &^ (frameAlign - 1))
			continue
		}
		if offset += int64(at); offset >= end {
			return nil
		}
		f := found{offset: offset}
		offset += frameAlign
		if !f.header.decode(b[at:]) || f.header.segment != id || epoch != nil && f.header.epoch != *epoch {
			continue
		}
		if size := frameBytes(int(f.header.payloadBytes)); int64(size) <= min(maxBytes, end-f.offset) {
			frame, err := w.view(f.offset, size)
			if err != nil {
				return err
			}
			if f.intact = len(frame) == size && frameChecksum(frame) == f.header.checksum; f.intact {
				offset = f.offset + int64(size)
			}
		}
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}

// nextFrameStart returns the first multiple of frameAlign at which b has the magic and a whole header; -1 where none has.
func nextFrameStart(b, magic []byte) int {
	for at := 0; at+frameHeaderBytes <= len(b); {
		i := bytes.Index(b[at:], magic)
		if i < 0 {
			return -1
		}
		at += i
		if at%frameAlign == 0 && at+frameHeaderBytes <= len(b) {
			return at
		}
		at = (at + frameAlign) &^ (frameAlign - 1)
	}
	return -1
}
