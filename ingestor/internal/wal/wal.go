package wal

import (
	"context"
	"errors"
	"fmt"
)

// LSN, the log sequence number, counts records from 1. A frame of n records takes n of them.
type LSN = uint64

// Entry is what Append takes: one batch, kept whole or not at all.
type Entry struct {
	// Records is how many LSNs the entry takes; at least 1.
	Records uint32
	// Parts make up the payload, one after the other. Append copies them and keeps no reference.
	Parts [2][]byte
}

// Frame is what Replay hands out: an Entry as it was stored.
type Frame struct {
	First   LSN
	Records uint32
	// Payload is valid, and must not be changed, until the callback returns.
	Payload  []byte
	Position Position
}

// Last is the LSN of the frame's last record.
func (f *Frame) Last() LSN { return f.First + LSN(f.Records) - 1 }

// Position says where a frame lies.
type Position struct {
	Segment     uint64
	OffsetBytes int64
}

// Errors of a WAL. ErrNoSpace, ErrGroupFull and ErrTooLarge leave the WAL as usable as before.
var (
	// ErrPoisoned is returned by every write after one failed: whether the failed one is durable is not known, and never
	// will be to this process.
	ErrPoisoned = errors.New("wal: poisoned by an earlier write or sync failure")
	// ErrNoSpace says that the next segment could not be made. Nothing of the group was written; it was dropped and its
	// LSNs will be given out again. Trying again is safe, and succeeds once there is space.
	ErrNoSpace = errors.New("wal: no space for the next segment")
	// ErrGroupFull says that the entry does not fit in the current group: call Sync, then append it again.
	ErrGroupFull = errors.New("wal: group is full")
	// ErrTooLarge says that the entry does not fit in any group.
	ErrTooLarge = errors.New("wal: entry is larger than a group may be")
	// ErrTruncated says that Replay was asked for records that TruncateBelow has dropped.
	ErrTruncated = errors.New("wal: records were truncated")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("wal: closed")
)

// CorruptionError says that the log is damaged in a way that a crash cannot explain, so that records which were durable
// may be missing. Nothing is skipped: Open refuses, Replay stops.
type CorruptionError struct {
	// Segment is the file's name.
	Segment string
	// OffsetBytes is where in the file the first bad frame, or the header, begins.
	OffsetBytes int64
	Reason      string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("wal: segment %s is corrupt at byte %d: %s", e.Segment, e.OffsetBytes, e.Reason)
}

// WAL is an open log. One goroutine at a time may call Append, Sync, MarkDurable and Close; all other methods may be called
// by any goroutine at any time.
type WAL struct{}

// Open opens the log in opt.Dir, or makes a new one.
func Open(ctx context.Context, opt Options) (*WAL, error) { return nil, errors.ErrUnsupported }

// ID is the log's random identity. It is in every segment and stays the same for as long as the log exists.
func (w *WAL) ID() [16]byte { return [16]byte{} }

// FirstLSN is the lowest LSN that the log may still hold.
func (w *WAL) FirstLSN() LSN { return 0 }

// NextLSN is the LSN that the next entry's first record will get.
func (w *WAL) NextLSN() LSN { return 0 }

// DurableLSN is the highest LSN that is durable; 0 before the first.
func (w *WAL) DurableLSN() LSN { return 0 }

// SizeBytes is the size of all segments on disk, spare ones not counted.
func (w *WAL) SizeBytes() int64 { return 0 }

// Append adds an entry to the current group and returns its first LSN. Nothing is written before Sync. It allocates nothing.
// Errors: ErrGroupFull, ErrTooLarge, ErrPoisoned, ErrClosed.
func (w *WAL) Append(e Entry) (first LSN, err error) { return 0, errors.ErrUnsupported }

// Sync writes the current group and makes it durable: after nil, everything appended before is. ErrNoSpace drops the group
// and is the only failure after which writing may go on; any other one poisons the WAL for good.
func (w *WAL) Sync() error { return errors.ErrUnsupported }

// MarkDurable writes proof that the last group was synced, for idle times.
func (w *WAL) MarkDurable() error { return errors.ErrUnsupported }

// Replay calls fn for every durable frame whose last LSN is at least from, in order.
func (w *WAL) Replay(ctx context.Context, from LSN, fn func(Frame) error) error {
	return errors.ErrUnsupported
}

// TruncateBelow drops the segments in which every LSN is below lsn.
func (w *WAL) TruncateBelow(lsn LSN) error { return errors.ErrUnsupported }

// Close seals the log and releases everything.
func (w *WAL) Close() error { return errors.ErrUnsupported }
