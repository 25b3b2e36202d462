package crashfs

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
)

// Moment is a file system at one instant: what programs saw, what was durable, and the changes between the two. It does not change, and
// may be used by several goroutines.
type Moment struct {
	root *inode
}

// Freeze returns the present instant. It copies nothing but names; contents are copied when they are changed next.
func (f *FS) Freeze() *Moment {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &Moment{root: f.root.freeze(map[*inode]*inode{})}
}

// freeze returns a copy of a tree, in which each inode of the original has one copy.
func (n *inode) freeze(copies map[*inode]*inode) *inode {
	if c := copies[n]; c != nil {
		return c
	}
	if n.dir == nil {
		if !n.contentsShared || !n.durableShared { // those of a Moment, which others may be reading, have been marked
			n.contentsShared, n.durableShared = true, true
		}
		c := *n
		c.changes = slices.Clip(n.changes)
		copies[n] = &c
		return &c
	}
	d := &dir{names: maps.Clone(n.dir.names), durable: maps.Clone(n.dir.durable), changes: slices.Clone(n.dir.changes)}
	c := &inode{dir: d}
	copies[n] = c
	for name, below := range d.names {
		d.names[name] = below.freeze(copies)
	}
	for name, below := range d.durable {
		d.durable[name] = below.freeze(copies)
	}
	for i := range d.changes {
		d.changes[i].node = d.changes[i].node.freeze(copies)
	}
	return c
}

// Kill returns the file system as the next process finds it when the program dies and the machine does not: everything written is
// there, and what was not synced can still be lost.
func (m *Moment) Kill() *FS { return &FS{root: m.root.freeze(map[*inode]*inode{})} }

// Crash returns a file system as it might be found after a power cut now. All of it is durable. The choice among the legal
// states depends on rng alone; the state of f does not change.
func (f *FS) Crash(rng *rand.Rand) *FS {
	sector := int64(512)
	if rng.IntN(2) == 0 {
		sector = 4096
	}
	return f.Freeze().States(sector).Sample(rng)
}

// Fingerprint is a hash of all names and contents that programs see. Seeds differ between processes, and so do the hashes.
func (f *FS) Fingerprint(seed maphash.Seed) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.root.fingerprint(seed)
}

// fingerprint sums up over the names, so that their order does not matter.
func (n *inode) fingerprint(seed maphash.Seed) uint64 {
	if n.dir == nil {
		return maphash.Bytes(seed, n.contents)
	}
	sum := uint64(1)
	var pair [16]byte
	for name, below := range n.dir.names {
		binary.LittleEndian.PutUint64(pair[:], maphash.String(seed, name))
		binary.LittleEndian.PutUint64(pair[8:], below.fingerprint(seed))
		sum += maphash.Bytes(seed, pair[:])
	}
	return sum
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
