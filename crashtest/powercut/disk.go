package powercut

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
)

// SectorBytes is the unit that a device writes whole or not at all.
const SectorBytes = 512

// Op is a kind of operation, for choosing where the power goes.
type Op int

// The kinds of operations that change what is on the disk.
const (
	Write Op = iota
	Sync     // fsync and fdatasync of a file
	SyncDir
	Create
	Rename
	Remove
	Resize
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
}

type node interface{ settle(d *Disk, rng *rand.Rand) }

// NewDisk returns an empty disk with the power on.
func NewDisk() *Disk {
	return &Disk{root: newDirectory(), lost: make(chan struct{})}
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

// do runs one operation under the lock, unless the power goes at it. mutate says whether the operation counts.
func (d *Disk) do(op Op, fn func() syscall.Errno) syscall.Errno {
	d.mu.Lock()
	if d.frozen == nil {
		d.counts[op]++
		d.total++
		hit := d.cut != nil && (d.cut.AnyOp && d.total == d.cut.N || !d.cut.AnyOp && d.cut.Op == op && d.counts[op] == d.cut.N)
		if !hit {
			defer d.mu.Unlock()
			return fn()
		}
		if d.cut.After {
			_ = fn() // nobody is left to be told
		}
		d.freezeLocked()
	}
	return d.darkLocked()
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

// Cut decides what the cut has left, and turns the power on. REQUIRES: the process is dead and the disk unmounted.
func (d *Disk) Cut(seed uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		panic("powercut: Cut without a loss of power")
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	d.root.settle(d, rng)
	d.stats.Cuts++
	d.frozen, d.lost = nil, make(chan struct{})
}

// file is a regular file.
type file struct {
	data    []byte // what readers see
	durable []byte
	pending []write // since the last sync, in order
}

// write is a pending write, or a change of size where bytes is nil.
type write struct {
	offset int64 // or the new size
	bytes  []byte
}

func (f *file) write(offset int64, b []byte) {
	copyOf := slices.Clone(b)
	f.pending = append(f.pending, write{offset, copyOf})
	f.data = place(f.data, offset, copyOf)
}

func (f *file) resize(size int64) {
	f.pending = append(f.pending, write{offset: size})
	f.data = resized(f.data, size)
}

func (f *file) sync() {
	for _, w := range f.pending {
		if w.bytes == nil {
			f.durable = resized(f.durable, w.offset)
		} else {
			f.durable = place(f.durable, w.offset, w.bytes)
		}
	}
	f.pending = nil
}

func (f *file) settle(d *Disk, rng *rand.Rand) {
	for _, w := range f.pending {
		if w.bytes != nil {
			f.settleWrite(d, rng, w)
		} else if rng.IntN(2) == 0 {
			f.durable = resized(f.durable, w.offset)
		}
	}
	f.pending = nil
	f.data = slices.Clone(f.durable)
}

// settleWrite picks a fate for the whole write first, so that whole and absent writes are frequent, then one for each sector of the
// others, which are torn. Fates follow the device's sectors, not the write's start.
func (f *file) settleWrite(d *Disk, rng *rand.Rand, w write) {
	fate := rng.IntN(4)
	for start := w.offset; start < w.offset+int64(len(w.bytes)); {
		end := min((start/SectorBytes+1)*SectorBytes, w.offset+int64(len(w.bytes)))
		part := w.bytes[start-w.offset : end-w.offset]
		roll := rng.IntN(100)
		switch {
		case fate == 0 || fate >= 2 && roll < 48:
			d.stats.SectorsLost++
		case fate == 1 || roll < 96:
			f.durable = place(f.durable, start, part)
			d.stats.SectorsKept++
		default:
			f.durable = place(f.durable, start, damaged(rng, len(part)))
			d.stats.SectorsDamaged++
		}
		start = end
	}
}

func damaged(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	if rng.IntN(2) == 0 {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
	}
	return b
}

// place writes b into data at offset; a gap before it reads as zeros.
func place(data []byte, offset int64, b []byte) []byte {
	if end := offset + int64(len(b)); end > int64(len(data)) {
		data = resized(data, end)
	}
	copy(data[offset:], b)
	return data
}

func resized(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size]
	}
	n := len(data)
	data = slices.Grow(data, int(size)-n)[:size]
	clear(data[n:])
	return data
}

// directory maps names to nodes.
type directory struct {
	names   map[string]node // what lookups see
	durable map[string]node
	pending []change // since the last sync, in order
}

// change sets or removes names, all of them or none.
type change map[string]node

func newDirectory() *directory {
	return &directory{names: map[string]node{}, durable: map[string]node{}}
}

func (c change) apply(names map[string]node) {
	for name, n := range c {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

func (dir *directory) change(c change) {
	dir.pending = append(dir.pending, c)
	c.apply(dir.names)
}

func (dir *directory) sync() {
	for _, c := range dir.pending {
		c.apply(dir.durable)
	}
	dir.pending = nil
}

func (dir *directory) settle(d *Disk, rng *rand.Rand) {
	for _, c := range dir.pending {
		if rng.IntN(2) == 0 {
			c.apply(dir.durable)
			d.stats.NamesKept++
		} else {
			d.stats.NamesLost++
		}
	}
	dir.pending = nil
	dir.names = maps.Clone(dir.durable)
	// Sorted, so that one seed makes one state.
	for _, name := range slices.Sorted(maps.Keys(dir.names)) {
		dir.names[name].settle(d, rng)
	}
}

// rename moves a name. Inside one directory it is atomic; across two, each directory's half is a change of its own.
func rename(from *directory, oldName string, to *directory, newName string) syscall.Errno {
	n, ok := from.names[oldName]
	if !ok {
		return syscall.ENOENT
	}
	if from == to {
		from.change(change{oldName: nil, newName: n})
		return 0
	}
	to.change(change{newName: n})
	from.change(change{oldName: nil})
	return 0
}

func (s Stats) String() string {
	return fmt.Sprintf("%d cuts: sectors %d lost, %d kept, %d damaged; names %d lost, %d kept",
		s.Cuts, s.SectorsLost, s.SectorsKept, s.SectorsDamaged, s.NamesLost, s.NamesKept)
}
