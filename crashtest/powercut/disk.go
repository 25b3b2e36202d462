package powercut

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// SectorBytes is the unit that a device writes whole or not at all.
const SectorBytes = 512

// Op is a kind of operation, for choosing where the power goes or what fails.
type Op int

// The kinds of operations that change what is on the disk.
const (
	Write Op = iota
	Sync     // fsync and fdatasync of a file
	SyncDir
	Create
	Rename
	Remove
	Resize // a change of size, or a reservation of space
	opCount
)

var opNames = [opCount]string{"write", "sync", "sync_dir", "create", "rename", "remove", "resize"}

func (o Op) String() string { return opNames[o] }

// Disk is a tree of files with durable and volatile state. All methods are safe for concurrent use.
type Disk struct {
	mu     sync.Mutex
	root   *directory
	counts [opCount]int
	total  int

	// frozen is not nil from the loss of power to the next mount; it is closed when the process is dead.
	frozen chan struct{}
	lost   chan struct{} // closed when the power goes
	cut    *CutPoint
	faults []*Injection
	space  space

	stats Stats
}

// CutPoint says when the power goes.
type CutPoint struct {
	// Op and N: at the N-th operation of this kind from now on, counted from 1. AnyOp counts operations of all kinds.
	Op    Op
	AnyOp bool
	N     int
	// After lets the operation take effect first; its caller is not answered either way.
	After bool
}

// Stats counts what cuts did, to show that they bite.
type Stats struct {
	Cuts           int
	SectorsLost    int // pending sectors that kept their old bytes
	SectorsKept    int // pending sectors that took the new ones
	SectorsDamaged int // zeros or garbage
	NamesLost      int // pending changes of directories that did not happen
	NamesKept      int
	Faults         int // operations that an injected fault has hit
	NoSpace        int // operations refused or cut short because the disk was full
}

// Add adds up the counts of several disks.
func (s *Stats) Add(o Stats) {
	s.Cuts += o.Cuts
	s.SectorsLost += o.SectorsLost
	s.SectorsKept += o.SectorsKept
	s.SectorsDamaged += o.SectorsDamaged
	s.NamesLost += o.NamesLost
	s.NamesKept += o.NamesKept
	s.Faults += o.Faults
	s.NoSpace += o.NoSpace
}

func (s Stats) String() string {
	return fmt.Sprintf("%d cuts: sectors %d lost, %d kept, %d damaged; names %d lost, %d kept; %d operations failed by order, %d for want of space",
		s.Cuts, s.SectorsLost, s.SectorsKept, s.SectorsDamaged, s.NamesLost, s.NamesKept, s.Faults, s.NoSpace)
}

// NewDisk returns an empty disk with the power on.
func NewDisk() *Disk {
	return &Disk{root: newDirectory(""), lost: make(chan struct{})}
}

// CutAt arms a cut. Lost is closed when it happens.
func (d *Disk) CutAt(point CutPoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = &point
	d.counts, d.total = [opCount]int{}, 0
}

// CutNow takes the power away between two operations.
func (d *Disk) CutNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.freezeLocked()
}

// Lost is closed when the power goes.
func (d *Disk) Lost() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// Stats returns the counts so far.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

func (d *Disk) freezeLocked() {
	d.cut = nil
	if d.frozen == nil {
		d.frozen = make(chan struct{})
		close(d.lost)
	}
}

// operation is one change that the process asks for. Its functions are called with the lock held.
type operation struct {
	op   Op
	path string
	// file, where set, is what is changed; its path counts then.
	file *file
	// begin, where set, is called when the operation begins, which a slow disk separates from apply.
	begin func()
	// apply makes the change. fault is what it must suffer; nil: nothing.
	apply func(fault *Fault) syscall.Errno
}

// do runs one operation, unless the power goes at it.
func (d *Disk) do(o operation) syscall.Errno {
	d.mu.Lock()
	if d.frozen != nil {
		return d.darkLocked()
	}
	d.counts[o.op]++
	d.total++
	if o.begin != nil {
		o.begin()
	}
	if d.cut != nil && (d.cut.AnyOp && d.total == d.cut.N || !d.cut.AnyOp && d.cut.Op == o.op && d.counts[o.op] == d.cut.N) {
		if d.cut.After {
			_ = o.apply(nil) // nobody is left to be told
		}
		d.freezeLocked()
		return d.darkLocked()
	}
	if o.file != nil {
		o.path = o.file.path
	}
	fault := d.hitLocked(o.op, o.path)
	if fault != nil && fault.Delay > 0 && !d.waitLocked(fault.Delay) {
		return d.darkLocked()
	}
	defer d.mu.Unlock()
	if fault != nil && fault.silent() {
		fault = nil
	}
	return o.apply(fault)
}

// waitLocked gives the lock away for a time. It reports false when the power has gone meanwhile.
func (d *Disk) waitLocked(delay time.Duration) bool {
	lost := d.lost
	d.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-lost:
	}
	d.mu.Lock()
	return d.frozen == nil
}

// look runs an operation that changes nothing.
func (d *Disk) look(fn func() syscall.Errno) syscall.Errno {
	d.mu.Lock()
	if d.frozen != nil {
		return d.darkLocked()
	}
	defer d.mu.Unlock()
	return fn()
}

// darkLocked blocks until the process is dead and its answer is seen by no one. It unlocks.
func (d *Disk) darkLocked() syscall.Errno {
	dead := d.frozen
	d.mu.Unlock()
	<-dead
	return syscall.EIO
}

// ReleaseBlocked lets blocked operations end. REQUIRES: the process has been sent SIGKILL, so that none of its threads comes back
// from the kernel.
func (d *Disk) ReleaseBlocked() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		panic("powercut: released while the power is on")
	}
	select {
	case <-d.frozen:
	default:
		close(d.frozen)
	}
}

// Resume goes on with all that is in memory, as after the death of a process on a machine that keeps its power. REQUIRES: the process
// is dead.
func (d *Disk) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		panic("powercut: Resume without a loss of power")
	}
	d.frozen, d.lost = nil, make(chan struct{})
}

// Cut decides what the cut has left, by seed, and turns the power on. Armed faults are gone. REQUIRES: the process is dead and the
// disk unmounted.
func (d *Disk) Cut(seed uint64) { d.settle(rand.New(rand.NewPCG(seed, 0))) }

// CutLosingAll is Cut where nothing is left but what was synced.
func (d *Disk) CutLosingAll() { d.settle(nil) }

func (d *Disk) settle(rng *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		panic("powercut: Cut without a loss of power")
	}
	d.root.settle(&d.stats, rng)
	d.space.usedBytes = d.root.allocatedBytes()
	d.stats.Cuts++
	d.frozen, d.lost, d.faults = nil, make(chan struct{}), nil
}
