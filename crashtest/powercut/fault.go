package powercut

import (
	"math/rand/v2"
	"syscall"
	"time"
)

// Fault is what goes wrong with one operation, or some in a row, while the power stays on.
type Fault struct {
	Op Op
	// Match says which files or directories are meant, by their path from the root of the disk; of a rename it is the new name.
	// nil: all.
	Match func(path string) bool
	// N: the fault hits the N-th such operation from now on, counted from 1. Default: 1.
	N int
	// Times is how many operations in a row it hits. Default: 1.
	Times int
	// Errno is what the caller gets. EINTR: nothing has happened. Any other one: a write has taken a part of its bytes; a sync has lost
	// some of what it was to sync, and what is lost counts as clean, so that a second sync succeeds without it (readers see
	// the bytes until the power goes); all else has not happened.
	Errno syscall.Errno
	// Short lets a write take only a part of its bytes and say so.
	Short bool
	// Delay is how long the operation takes before it does what it does otherwise. A slow sync makes durable what was written before
	// it began, nothing more.
	Delay time.Duration
	// Seed decides what a failed sync has lost.
	Seed uint64
}

// silent tells whether the operation does what it would do without the fault, only later.
func (f *Fault) silent() bool { return f.Errno == 0 && !f.Short }

// loses tells whether a failed sync drops what it was to sync.
func (f *Fault) loses() bool { return f.Errno != syscall.EINTR }

// rng is what decides about the fault's damage.
func (f *Fault) rng() *rand.Rand { return rand.New(rand.NewPCG(f.Seed, 1)) }

// taken is how many of n bytes a failed or short write has taken: about a half, in whole sectors, so that direct I/O can go on behind
// them. A short write takes one byte at least.
func (f *Fault) taken(n int) int {
	switch {
	case f.Errno == syscall.EINTR:
		return 0
	case n >= 2*SectorBytes:
		return n / 2 / SectorBytes * SectorBytes
	}
	if f.Short {
		return max(n/2, min(n, 1))
	}
	return n / 2
}

// Injection is a fault that waits for its operation.
type Injection struct {
	fault Fault
	seen  int
	hits  int
	hit   chan struct{}
	path  string
}

// Hit is closed when the fault has hit an operation for the first time. A delayed operation still waits then.
func (i *Injection) Hit() <-chan struct{} { return i.hit }

// Path is what the operation was on. REQUIRES: Hit is closed.
func (i *Injection) Path() string { return i.path }

// Inject arms a fault. It stays armed until it has hit as often as it should, Clear is called or the power is cut.
func (d *Disk) Inject(f Fault) *Injection {
	f.N, f.Times = max(f.N, 1), max(f.Times, 1)
	i := &Injection{fault: f, hit: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, i)
	return i
}

// Clear disarms all faults.
func (d *Disk) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

// hitLocked returns the fault that hits an operation, or nil.
func (d *Disk) hitLocked(op Op, path string) *Fault {
	for _, i := range d.faults {
		if i.fault.Op != op || i.hits == i.fault.Times || i.fault.Match != nil && !i.fault.Match(path) {
			continue
		}
		if i.seen++; i.seen < i.fault.N {
			continue
		}
		if i.hits++; i.hits == 1 {
			i.path = path
			close(i.hit)
		}
		d.stats.Faults++
		return &i.fault
	}
	return nil
}
