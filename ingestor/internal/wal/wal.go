package wal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// LSN is the log sequence number: it counts records from 1. A frame of n records takes n of them.
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

	errNoRecords = errors.New("wal: entry without records")
	errUnderWay  = errors.New("wal: a group is under way")
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

// WAL is an open log. One goroutine at a time may call Append, Sync, Begin, MarkDurable and Close, and receive from Done; all
// other methods may be called by any goroutine at any time before Close.
type WAL struct {
	opt     Options
	id      [16]byte
	direct  int // vfs.Direct or 0; of the goroutine that appends, once open
	budget  *budget
	spares  *spares
	metrics *metrics
	// firstSegment is the id of the first segment of a new log; suffix follows the names of segments. Only a repair sets them.
	firstSegment uint64
	suffix       string

	// Of the goroutine that appends. file is that of the newest segment; nil until this WAL has begun one, because nothing
	// is ever added to a segment that was recovered. unproven is set while the last group has no frame after it. group takes
	// what is appended. other is empty, or with the syncer, which has file and the end of the newest segment with it.
	group    *group
	other    *group
	file     vfs.File
	unproven bool
	syncer   syncer
	// undecided: whether the file system takes direct I/O is not known, because it was full.
	undecided bool

	next     atomic.Uint64
	durable  atomic.Uint64
	closed   atomic.Bool
	poisoned atomic.Pointer[error]

	truncating sync.Mutex // serialises TruncateBelow; taken before mu
	mu         sync.Mutex
	segments   []*segment // ascending, without a gap; never empty once open
	stops      []stop     // where replays ended
}

// ID is the log's random identity. It is in every segment and stays the same for as long as the log exists.
func (w *WAL) ID() [16]byte { return w.id }

// FirstLSN is the lowest LSN that the log may still hold.
func (w *WAL) FirstLSN() LSN {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.segments[0].header.first
}

// NextLSN is the LSN that the next entry's first record will get.
func (w *WAL) NextLSN() LSN { return w.next.Load() }

// DurableLSN is the highest LSN that is durable, or was found or declared to be by Open; 0 before the first.
func (w *WAL) DurableLSN() LSN { return w.durable.Load() }

// SizeBytes is the size of all segments on disk, spare ones not counted.
func (w *WAL) SizeBytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sum int64
	for _, s := range w.segments {
		sum += s.sizeBytes
	}
	return sum
}

// Append adds an entry to the current group and returns its first LSN. Nothing is written before Sync. It copies the
// payload and allocates nothing. After an error nothing was added: ErrGroupFull, ErrTooLarge, ErrPoisoned, ErrClosed.
func (w *WAL) Append(e Entry) (first LSN, err error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	if e.Records == 0 {
		return 0, errNoRecords
	}
	first = w.next.Load()
	if err := w.group.add(kindRecords, first, e.Records, e.Parts); err != nil {
		return 0, err
	}
	w.next.Store(first + LSN(e.Records))
	return first, nil
}

// Sync writes the current group and makes it durable: one write, one fdatasync. After nil, everything appended before is
// durable. ErrNoSpace means that nothing was written: the group is dropped, its LSNs are given out again, and writing may
// be tried later. After any other error the log is poisoned, and nobody knows whether the group is there. No group may be
// under way.
func (w *WAL) Sync() error {
	stats, err := w.prepare()
	if err != nil || w.group.frames == 0 {
		return err
	}
	return w.writeGroup(w.group, stats)
}

// Begin is Sync that does not wait: it hands the current group to the syncer, and Append fills another one meanwhile. Done
// delivers the outcome. Without an entry to sync Begin does nothing, and nothing is delivered. Its own errors are those of
// Sync before anything is written; there is no outcome then.
//
// One group is under way at a time, until its outcome has been received. So what a crash leaves on disk is what it would leave
// with Sync.
func (w *WAL) Begin() error {
	stats, err := w.prepare()
	if err != nil || w.group.frames == 0 {
		return err
	}
	w.syncer.begin(w, w.group, stats)
	w.group, w.other = w.other, w.group
	return nil
}

// Done delivers the outcome of each group that was begun: nil when everything appended before Begin is durable; otherwise the
// log is poisoned, and nobody knows whether the group is there.
func (w *WAL) Done() <-chan error { return w.syncer.done }

// prepare sees to it that the newest segment has room for the current group, and begins one if need be.
func (w *WAL) prepare() (GroupStats, error) {
	var stats GroupStats
	if err := w.usable(); err != nil {
		return stats, err
	}
	if w.group.frames == 0 {
		return stats, nil
	}
	if w.syncer.busy.Load() {
		return stats, errUnderWay
	}
	if w.file == nil || !w.fits(w.group.paddedBytes()) {
		began := time.Now()
		if err := w.roll(); err != nil {
			w.discard()
			return stats, err
		}
		stats.Roll = time.Since(began)
	}
	w.unproven = true
	return stats, nil
}

// MarkDurable writes a frame without records which proves that the last group was synced. Without it, damage to the last
// group of a log that then stands idle looks like a write that a power cut tore, and is cut off instead of refused. It is
// meant for idle times, costs what a small group costs, and does nothing where the proof exists, entries wait for Sync, or
// the segment is full. Where the last group was recovered, the proof is a new segment, whose header names it, and the error
// may be ErrNoSpace; any other failure poisons the WAL.
func (w *WAL) MarkDurable() error {
	if err := w.usable(); err != nil {
		return err
	}
	switch {
	case !w.unproven || w.group.frames > 0 || w.syncer.busy.Load():
		return nil
	case w.file == nil:
		return w.roll()
	case !w.fits(vfs.BlockBytes):
		return nil
	}
	return w.mark(kindMarker)
}

// Close lets a group under way end, drops what was appended and not synced, seals the segment, waits for the goroutines and closes
// all files. The caller ends all other calls first. A poisoned WAL is closed without the seal.
func (w *WAL) Close() error {
	if w.closed.Swap(true) {
		return ErrClosed
	}
	w.syncer.stop()
	w.spares.stop()
	w.metrics.unregister()
	if w.file == nil {
		return nil
	}
	w.discard()
	var err error
	if w.poisoned.Load() == nil {
		err = w.mark(kindSeal)
	}
	return errors.Join(err, w.file.Close())
}

// usable says why nothing may be written; nil where it may.
func (w *WAL) usable() error {
	if p := w.poisoned.Load(); p != nil {
		return *p
	}
	if w.closed.Load() {
		return ErrClosed
	}
	return nil
}

// poison makes every later write fail and returns the error to fail with.
func (w *WAL) poison(cause error) error {
	err := fmt.Errorf("%w: %w", ErrPoisoned, cause)
	w.poisoned.CompareAndSwap(nil, &err)
	w.opt.Logger.Error("wal_poisoned", "error", cause)
	return err
}
