package blockdev

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Op is a kind of request that changes a device.
type Op int

// The kinds.
const (
	Write Op = iota // zeroing is a write of zeros
	Flush
	opCount
)

func (o Op) String() string { return [...]string{"write", "flush"}[o] }

// Rules are how a device behaves. The zero value is a sound one whose flushes take no time.
type Rules struct {
	// FlushTime is how long a flush takes. What is written meanwhile is not covered by it.
	FlushTime time.Duration
	// IgnoreFlush answers flushes and does nothing: the mistake that the judge must find.
	IgnoreFlush bool
}

// Disk is a device with a volatile cache. What was written before a flush began is durable once the flush has been answered; anything after
// that may or may not have reached the medium when the power goes. All methods are safe for concurrent use.
type Disk struct {
	rules Rules

	mu      sync.Mutex
	current image // what readers see
	durable image
	pending []write // since what is durable, in order
	settled uint64  // number of the first pending write
	counts  [opCount]uint64
	trap    *trap
}

// write is a request that has been answered and may still be lost. It is never changed.
type write struct {
	offset, length int64
	// after are the blocks it touched, as they were right after it. Its own bytes are a part of them.
	after []*page
}

// trap waits for a moment.
type trap struct {
	at    When
	seen  int // requests since it was armed
	hits  int // those of the kind that counts
	visit func()
}

// When is a moment to come: that of the N-th request from now on, counted from 1, of a kind or of any.
type When struct {
	Op    Op
	AnyOp bool
	N     int
	// Pending is how many writes there should be that may be lost. It is lowered by one for every patienceRequests that pass, so that
	// the moment comes even where there never are so many. Nor does it wait for a kind that does not come: when ten times as many requests
	// have passed, those of any kind count.
	Pending int
}

const patienceRequests = 100

// newDisk is a device that holds im. The image is the device's from then on.
func newDisk(im image, rules Rules) *Disk {
	return &Disk{rules: rules, current: im, durable: im.clone()}
}

// SizeBytes is the size of the device.
func (d *Disk) SizeBytes() int64 { return int64(len(d.current)) * BlockBytes }

// Counts says how many requests of each kind there were.
func (d *Disk) Counts() (writes, flushes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[Write], d.counts[Flush]
}

// On lets visit be called at a moment, before the request that makes it has any effect. Requests that run beside it go on. It takes the
// place of an earlier moment that has not come.
func (d *Disk) On(at When, visit func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trap = &trap{at: at, visit: visit}
}

// Disarm takes back On.
func (d *Disk) Disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trap = nil
}

// arrive counts a request and springs the trap.
func (d *Disk) arrive(op Op) {
	d.mu.Lock()
	d.counts[op]++
	var visit func()
	if t := d.trap; t != nil && t.springs(op, len(d.pending)) {
		visit, d.trap = t.visit, nil
	}
	d.mu.Unlock()
	if visit != nil {
		visit()
	}
}

func (t *trap) springs(op Op, pending int) bool {
	t.seen++
	if !t.at.AnyOp && t.at.Op != op && t.seen < 10*patienceRequests {
		return false
	}
	t.hits++
	return t.hits >= t.at.N && pending >= t.at.Pending-t.seen/patienceRequests
}

func (d *Disk) check(offset, length int64) error {
	if offset < 0 || length < 0 || offset%SectorBytes != 0 || length%SectorBytes != 0 || offset+length > d.SizeBytes() {
		return fmt.Errorf("blockdev: request for %d bytes at %d of a device of %d", length, offset, d.SizeBytes())
	}
	return nil
}

// Read fills b from offset on.
func (d *Disk) Read(offset int64, b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(offset, int64(len(b))); err != nil {
		return err
	}
	d.current.read(offset, b)
	return nil
}

// Write writes b, which it does not keep.
func (d *Disk) Write(offset int64, b []byte) error {
	d.arrive(Write)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(offset, int64(len(b))); err != nil {
		return err
	}
	d.pending = append(d.pending, write{offset, int64(len(b)), d.current.place(offset, b)})
	return nil
}

// maxZeroBytes is how much one write of zeros covers: more are several writes, as on a device.
const maxZeroBytes = 1 << 20

// Zero writes zeros.
func (d *Disk) Zero(offset, length int64) error {
	for done := int64(0); done < length; done += maxZeroBytes {
		if err := d.Write(offset+done, make([]byte, min(length-done, maxZeroBytes))); err != nil {
			return err
		}
	}
	return nil
}

// Flush makes durable what was written before it came.
func (d *Disk) Flush() {
	d.arrive(Flush)
	d.mu.Lock()
	covered := d.settled + uint64(len(d.pending))
	d.mu.Unlock()
	if d.rules.FlushTime > 0 {
		time.Sleep(d.rules.FlushTime)
	}
	if d.rules.IgnoreFlush {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for ; n < len(d.pending) && d.settled < covered; n++ {
		w := &d.pending[n]
		copy(d.durable[w.offset/BlockBytes:], w.after)
		d.settled++
	}
	// A capture may hold the old slice.
	d.pending = slices.Clone(d.pending[n:])
}

// Capture is what a device may become if the power goes at one moment.
type Capture struct {
	// durable must be cloned before it is changed, pending must not be changed.
	durable image
	pending []write
}

// Capture notes the present moment. The device goes on.
func (d *Disk) Capture() Capture {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Capture{durable: d.durable.clone(), pending: slices.Clone(d.pending)}
}

// Pending is how many writes may be lost.
func (c *Capture) Pending() int { return len(c.pending) }
