package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// DirectIO says whether the log is written past the page cache.
type DirectIO int

// The direct I/O modes.
const (
	// DirectAuto uses direct I/O where the file system takes it.
	DirectAuto DirectIO = iota
	// DirectOn refuses to open where the file system does not.
	DirectOn
	// DirectOff never uses it.
	DirectOff
)

// Defaults and bounds of Options.
const (
	DefaultSegmentSizeBytes = 64 << 20
	DefaultSpareSegments    = 2
	DefaultMaxGroupBytes    = 4 << 20
	maxGroupBytesLimit      = 256 << 20
)

// Options configure a WAL. Only Dir is required.
type Options struct {
	// Dir holds the log and nothing else. The caller sees to it that no other process uses it.
	Dir string
	// FS is the file system; vfs.OS when nil.
	FS vfs.FS
	// SegmentSizeBytes is the size of each segment file, a multiple of 4 KiB; DefaultSegmentSizeBytes when 0. It may change
	// from one Open to the next.
	SegmentSizeBytes int64
	// SpareSegments is how many segments are kept ready, zero-filled, ahead of need; DefaultSpareSegments when 0, none when
	// negative. Up to four times as many dropped segments are kept to be used again.
	SpareSegments int
	// MaxGroupBytes bounds a group, and with it an entry, headers included; a multiple of 4 KiB. DefaultMaxGroupBytes when 0.
	MaxGroupBytes int
	// MaxSizeBytes bounds all files of the log, spares included; 0 is no bound.
	MaxSizeBytes int64
	// DirectIO is the direct I/O mode.
	DirectIO DirectIO
	// FirstLSN is the lowest LSN that may be given out: one above what any sink has flushed. Open refuses a log in which a
	// record at or above it was dropped. 0 when nothing is known.
	FirstLSN LSN
	// ID is the identity that Repair gives to a log of which no segment header is legible; a random one when zero. Nothing else uses it.
	ID [16]byte
	// Logger gets what an operator should know; nothing is logged when nil.
	Logger *slog.Logger
	// Registerer gets the metrics; there are none when nil.
	Registerer prometheus.Registerer
	// OnFrame, when set, is called by Open, in order, for every frame of the log that it finds, once it is proven: the whole pass may yet
	// end in a *CorruptionError. An error of it ends Open and is returned as it is.
	OnFrame func(Frame) error
	// OnGroup, when set, is called after each durable group, before Sync returns or Done delivers, on the goroutine that wrote it.
	OnGroup func(GroupStats)
}

// GroupStats says what was done for a group and how long it took.
type GroupStats struct {
	Frames  int
	Records uint64
	// Bytes is what was written, padding included.
	Bytes int
	// Roll is the time spent to begin a new segment; 0 for most groups.
	Roll time.Duration
	// Write is the time to stamp, checksum and write the group.
	Write time.Duration
	// Datasync is the time that fdatasync took.
	Datasync time.Duration
}

// withDefaults returns the options with every zero value replaced, or says which one is wrong.
func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("wal: Dir is required")
	}
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.SegmentSizeBytes == 0 {
		o.SegmentSizeBytes = DefaultSegmentSizeBytes
	}
	if o.SpareSegments == 0 {
		o.SpareSegments = DefaultSpareSegments
	}
	o.SpareSegments = max(o.SpareSegments, 0)
	if o.MaxGroupBytes == 0 {
		o.MaxGroupBytes = DefaultMaxGroupBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnGroup == nil {
		o.OnGroup = func(GroupStats) {}
	}
	switch {
	case o.MaxGroupBytes < 0 || o.MaxGroupBytes%vfs.BlockBytes != 0 || o.MaxGroupBytes > maxGroupBytesLimit:
		return o, fmt.Errorf("wal: MaxGroupBytes %d is not a multiple of %d up to %d",
			o.MaxGroupBytes, vfs.BlockBytes, maxGroupBytesLimit)
	case o.SegmentSizeBytes%vfs.BlockBytes != 0 || o.SegmentSizeBytes < minSegmentBytes(o.MaxGroupBytes):
		return o, fmt.Errorf("wal: SegmentSizeBytes %d is not a multiple of %d that holds a group of %d",
			o.SegmentSizeBytes, vfs.BlockBytes, o.MaxGroupBytes)
	case o.MaxSizeBytes != 0 && o.MaxSizeBytes < 2*o.SegmentSizeBytes:
		return o, fmt.Errorf("wal: MaxSizeBytes %d is less than two segments", o.MaxSizeBytes)
	}
	return o, nil
}

// visit returns what a scanner is to do with each frame; nil for nothing.
func (o *Options) visit() func(frameHeader, []byte, int64) error {
	if o.OnFrame == nil {
		return nil
	}
	return func(h frameHeader, payload []byte, offset int64) error {
		if h.kind != kindRecords {
			return nil
		}
		return o.OnFrame(h.frame(payload, offset))
	}
}

// minSegmentBytes is the header, one largest group, and the block that is kept free for a seal.
func minSegmentBytes(maxGroupBytes int) int64 { return int64(maxGroupBytes) + 2*vfs.BlockBytes }
