package wal

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// Report says what is in a log's directory.
type Report struct {
	// WALID is the log's identity in hexadecimal; empty where no header is legible.
	WALID    string
	Segments []SegmentInfo
	Spares   int
	// TornBytes is how much of a group that a crash tore is legible after the log's end. It was never acknowledged, and is no
	// damage.
	TornBytes int64
	// UnfinishedRepair says that Repair was interrupted and has to be run again.
	UnfinishedRepair bool
	// Corruption is the first damage found; nil where the log is sound. Segments behind it are not reported.
	Corruption *CorruptionError
}

// SegmentInfo describes a segment that is sound.
type SegmentInfo struct {
	Name     string
	ID       uint64
	FirstLSN LSN
	// LastLSN is the LSN before FirstLSN where the segment holds no records.
	LastLSN LSN
	// Frames counts markers and seals too.
	Frames    int64
	SizeBytes int64
	// EndBytes is the offset after the last frame.
	EndBytes int64
	// Sealed says that the log was closed in good order here.
	Sealed bool
}

// FrameInfo describes a frame.
type FrameInfo struct {
	Position    Position
	Kind        string // "records", "marker" or "seal"
	FirstLSN    LSN
	Records     uint32
	DurableLSN  LSN
	GroupOffset uint64
	// PayloadBytes is the length of the payload.
	PayloadBytes uint32
}

// Verify reads a whole log, checks it as Open does, and changes nothing. Damage is in the report; the error is for what kept
// it from reading. No other process may write to the log.
func Verify(ctx context.Context, fsys vfs.FS, dir string) (Report, error) {
	return Inspect(ctx, fsys, dir, func(FrameInfo) error { return nil })
}

// Inspect is Verify that also calls fn for every frame, in order, up to the first damage. An error of fn ends it.
func Inspect(ctx context.Context, fsys vfs.FS, dir string, fn func(FrameInfo) error) (Report, error) {
	list, err := listDir(fsys, dir)
	if err != nil {
		return Report{}, err
	}
	s := scanner{fs: fsys, dir: dir, direct: true, visit: func(h frameHeader, _ []byte, offset int64) error {
		return fn(FrameInfo{
			Position: Position{h.segment, offset}, Kind: kindName(h.kind), FirstLSN: h.first, Records: h.records,
			DurableLSN: h.durable, GroupOffset: h.groupOffset, PayloadBytes: h.payloadBytes,
		})
	}}
	segments, err := s.scan(ctx, list.segments)
	r := Report{Spares: len(list.spares), TornBytes: s.tornBytes, UnfinishedRepair: list.repair}
	if corruption, ok := errors.AsType[*CorruptionError](err); ok {
		r.Corruption, err = corruption, nil
	}
	for _, seg := range segments {
		r.WALID = hex.EncodeToString(seg.header.wal[:])
		r.Segments = append(r.Segments, SegmentInfo{
			Name: seg.name(), ID: seg.header.id, FirstLSN: seg.header.first, LastLSN: seg.last, Frames: seg.frames,
			SizeBytes: seg.sizeBytes, EndBytes: seg.endBytes, Sealed: seg.sealed,
		})
	}
	return r, err
}

func kindName(kind uint8) string {
	switch kind {
	case kindRecords:
		return "records"
	case kindMarker:
		return "marker"
	default:
		return "seal"
	}
}
