package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// Recovery decides, from the files alone, what the log holds. It changes nothing, so it may be cut short and run again, and
// what it decided stays decided: a new segment names the LSN and checksum at which its predecessor was found to end.
//
//	names without a gap ─> headers chain to each other ─> every segment but the newest: valid frames up to the end
//	that its successor names ─> the newest: valid frames up to the first bad one, which is either
//	  a torn tail   nothing after it proves that it had been synced: the group that was in flight; it is cut
//	  corruption    a later frame proves that: the log is refused

// listing is what a log's directory holds.
type listing struct {
	segments []uint64 // ids, ascending
	spares   []string // names
	repair   bool     // an unfinished repair is there
}

func listDir(fsys vfs.FS, dir string) (listing, error) {
	var l listing
	names, err := fsys.List(dir)
	if err != nil {
		return l, fmt.Errorf("wal: list: %w", err)
	}
	for _, name := range names {
		if id, ok := parseSegmentName(name); ok {
			l.segments = append(l.segments, id)
			continue
		}
		switch {
		case name == repairMarker:
			l.repair = true
		case isSpareName(name):
			l.spares = append(l.spares, name)
		}
	}
	slices.Sort(l.segments)
	return l, nil
}

// syncAll makes every segment and the directory durable, so that nothing is handed out that a power cut could take back.
func syncAll(fsys vfs.FS, dir string, ids []uint64) error {
	for _, id := range ids {
		f, err := fsys.OpenFile(filepath.Join(dir, segmentName(id)), os.O_RDWR, 0)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return fmt.Errorf("wal: sync before replay: %w", err)
		}
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := fsys.SyncDir(d); err != nil {
			return fmt.Errorf("wal: sync before replay: %w", err)
		}
	}
	return nil
}

// scanner reads a log and checks it, in one pass.
type scanner struct {
	fs  vfs.FS
	dir string
	// direct asks for reads past the page cache.
	direct bool
	cursor cursor
	blocks blockPool
	// upcoming is the segment after the one that is being checked; nil where there is none.
	upcoming *ahead
	// visit, when set, sees every valid frame of the log, its payload and its offset.
	visit func(frameHeader, []byte, int64) error
	// tornBytes is how far the frame headers of the group that was torn reach beyond the end.
	tornBytes int64
}

// scan reads all segments. The error is a *CorruptionError where the log is damaged; the segments read so far are returned
// with it.
func (s *scanner) scan(ctx context.Context, ids []uint64) ([]*segment, error) {
	segments := make([]*segment, 0, len(ids))
	for _, id := range ids {
		seg, err := s.header(id)
		if err != nil {
			return segments, err
		}
		if len(segments) > 0 {
			err = follows(segments[len(segments)-1], seg)
		}
		if err != nil {
			return segments, err
		}
		segments = append(segments, seg)
	}
	for i, seg := range segments {
		if err := s.check(ctx, seg, segments[i+1:]); err != nil {
			return segments[:i], err
		}
	}
	return segments, nil
}

// check reads one segment while the disk begins to read the one after it.
func (s *scanner) check(ctx context.Context, seg *segment, after []*segment) (err error) {
	read := s.upcoming
	s.upcoming = nil
	if read == nil {
		if read, err = s.begin(seg); err != nil {
			return err
		}
	}
	var end *tail
	if len(after) > 0 {
		end = &after[0].header.prev
		if s.upcoming, err = s.begin(after[0]); err != nil {
			return errors.Join(err, read.close())
		}
	}
	if err = s.frames(ctx, seg, read, end); err != nil && s.upcoming != nil {
		err = errors.Join(err, s.upcoming.close())
	}
	return err
}

// header reads a segment's header.
func (s *scanner) header(id uint64) (*segment, error) {
	seg := &segment{path: filepath.Join(s.dir, segmentName(id))}
	f, err := s.fs.OpenFile(seg.path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("wal: open segment: %w", err)
	}
	seg.sizeBytes, err = f.SizeBytes()
	if err == nil {
		var b [segmentHeaderBytes]byte
		var n int
		if n, err = readFull(f, b[:], 0); err == nil {
			if bad := seg.header.decode(b[:n]); bad != nil {
				err = seg.corrupt(0, bad.Error())
			}
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if seg.header.id != id {
		return nil, seg.corrupt(0, fmt.Sprintf("header is that of segment %d", seg.header.id))
	}
	seg.last, seg.checksum, seg.endBytes = seg.header.first-1, seg.header.checksum, segmentHeaderBytes
	return seg, nil
}

// follows checks that seg was begun after prev, in the same log.
func follows(prev, seg *segment) error {
	switch {
	case seg.header.id != prev.header.id+1:
		return seg.corrupt(0, fmt.Sprintf("segment %d before it is missing", seg.header.id-1))
	case seg.header.wal != prev.header.wal:
		return seg.corrupt(0, "segment of another log")
	case seg.header.prev.segment != prev.header.id:
		return seg.corrupt(0, fmt.Sprintf("header names %d as the segment before it", seg.header.prev.segment))
	}
	return nil
}

// begin begins to read a segment.
func (s *scanner) begin(seg *segment) (*ahead, error) {
	a, err := openAhead(s.fs, seg.path, segmentHeaderBytes, seg.sizeBytes, s.direct, &s.blocks)
	if err != nil {
		return nil, fmt.Errorf("wal: open segment: %w", err)
	}
	return a, nil
}

// frames reads a segment, of which read has begun, up to its end: the one that its successor names, or, in the newest, the one that
// it finds. It closes read.
func (s *scanner) frames(ctx context.Context, seg *segment, read *ahead, end *tail) error {
	c := &s.cursor
	c.reset(read, seg.header)
	err := ctx.Err()
	if err != nil {
		return errors.Join(err, read.close())
	}
	if end == nil {
		err = s.newest(seg)
	} else {
		err = s.upTo(seg, *end)
	}
	seg.last, seg.checksum, seg.endBytes = c.last, c.chain, c.offset
	seg.frames, seg.sealed = c.frames, c.sealed
	return errors.Join(err, read.close())
}

// upTo reads a segment that has a successor.
func (s *scanner) upTo(seg *segment, end tail) error {
	c := &s.cursor
	for c.last != end.last || c.chain != end.checksum {
		at := c.offset
		h, payload, err := c.next()
		if bad, ok := errors.AsType[*badFrame](err); ok {
			return seg.corrupt(at, fmt.Sprintf("%s, but the next segment says that this one ends at LSN %d", bad.reason, end.last))
		}
		if err != nil {
			return fmt.Errorf("wal: read segment %s: %w", seg.name(), err)
		}
		if err := s.visited(h, payload, at); err != nil {
			return err
		}
	}
	return nil
}

// newest reads the segment that has no successor and judges what ends it.
func (s *scanner) newest(seg *segment) error {
	if seg.sizeBytes != seg.header.sizeBytes {
		return seg.corrupt(seg.sizeBytes, fmt.Sprintf("file of %d bytes was cut or grown", seg.header.sizeBytes))
	}
	c := &s.cursor
	for {
		at := c.offset
		h, payload, err := c.next()
		if bad, ok := errors.AsType[*badFrame](err); ok {
			return s.judge(seg, bad)
		}
		if err != nil {
			return fmt.Errorf("wal: read segment %s: %w", seg.name(), err)
		}
		if err := s.visited(h, payload, at); err != nil {
			return err
		}
	}
}

// judge decides whether the bad frame at the cursor is the torn end of the group that was in flight. It is, unless a frame
// header of this use of the file, further on, says otherwise: that it belongs to a later group, which was written only after
// this one had been synced, or that it lies where the group in flight cannot reach.
func (s *scanner) judge(seg *segment, bad *badFrame) error {
	c := &s.cursor
	return c.window.search(seg.header.id, &seg.header.epoch, c.offset, seg.sizeBytes, seg.header.maxGroupBytes, func(at found) error {
		if at.header.groupOffset == uint64(c.group) && at.offset < c.group+seg.header.maxGroupBytes && !c.sealed {
			s.tornBytes = at.offset + frameHeaderBytes - c.offset
			return nil
		}
		return seg.corrupt(c.offset, fmt.Sprintf("%s, but the frame at byte %d (LSN %d) shows that this place had been synced",
			bad.reason, at.offset, at.header.first))
	})
}

func (s *scanner) visited(h frameHeader, payload []byte, offset int64) error {
	if s.visit == nil {
		return nil
	}
	return s.visit(h, payload, offset)
}

// missingBefore checks that no record which a sink may need was in a segment before the oldest.
func missingBefore(oldest *segment, firstLSN LSN) error {
	if prev := oldest.header.prev; firstLSN > 0 && prev.last >= firstLSN {
		return oldest.corrupt(0, fmt.Sprintf(
			"segment %d before it, with records up to LSN %d, is missing, but the sinks have only those below %d",
			prev.segment, prev.last, firstLSN))
	}
	return nil
}
