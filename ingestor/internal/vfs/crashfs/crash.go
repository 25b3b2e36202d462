package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash returns a file system as it might be found after a power cut now. All of it is durable. The choice among the legal
// states depends on rng alone; the state of f does not change.
func (f *FS) Crash(rng *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := New()
	found := map[*inode]*inode{}
	for _, name := range slices.Sorted(maps.Keys(f.dirs)) {
		d := f.dirs[name]
		names := maps.Clone(d.durable)
		applyNames(names, chooseNames(d.changes, rng))
		to := newDir()
		for _, base := range slices.Sorted(maps.Keys(names)) {
			node := names[base]
			if found[node] == nil {
				found[node] = node.crash(rng)
			}
			to.names[base] = found[node]
		}
		to.durable = maps.Clone(to.names)
		after.dirs[name] = to
	}
	return after
}

// chooseNames picks the changes of a directory that survive: the first few, as with a journal, or any.
func chooseNames(changes []nameChange, rng *rand.Rand) []nameChange {
	if rng.IntN(2) == 0 {
		return changes[:rng.IntN(len(changes)+1)]
	}
	return subset(changes, rng)
}

// subset returns a random subset, in order.
func subset[T any](all []T, rng *rand.Rand) []T {
	var kept []T
	for _, c := range all {
		if rng.IntN(2) == 0 {
			kept = append(kept, c)
		}
	}
	return kept
}

// crash returns the file as it might be found.
func (n *inode) crash(rng *rand.Rand) *inode {
	n.durableShared = true
	after := &inode{contents: n.durable, contentsShared: true}
	switch count := len(n.changes); {
	case count == 0:
	case rng.IntN(4) == 0:
		// None survives.
	case rng.IntN(3) == 0:
		after.apply(n.changes...)
	case rng.IntN(2) == 0:
		// The changes got there in order; the power failed in the midst of one.
		whole := rng.IntN(count)
		after.apply(n.changes[:whole]...)
		after.tear(n.changes[whole], rng)
	default:
		for _, c := range subset(n.changes, rng) {
			after.tear(c, rng)
		}
	}
	if len(n.changes) > 0 && rng.IntN(3) == 0 {
		// The size got there, whatever became of the data.
		after.apply(change{offset: int64(len(n.contents))})
	}
	after.durable, after.durableShared, after.contentsShared = after.contents, true, true
	return after
}

// tear makes a change to contents sector by sector, each of which may or may not get there. Half of the torn writes leave
// only old or new sectors, the others zeros and garbage too.
func (n *inode) tear(c change, rng *rand.Rand) {
	if c.bytes == nil {
		n.apply(c)
		return
	}
	sector := int64(512)
	if rng.IntN(2) == 0 {
		sector = 4096
	}
	outcomes := 2 + 2*rng.IntN(2)
	for at := c.offset; at < c.offset+int64(len(c.bytes)); {
		end := min((at/sector+1)*sector, c.offset+int64(len(c.bytes)))
		b := c.bytes[at-c.offset : end-c.offset]
		switch rng.IntN(outcomes) {
		case 0:
			n.apply(change{offset: at, bytes: b})
		case 1:
			// The old bytes stay; where there were none, the file ends before them or has zeros, as later sectors decide.
		case 2:
			n.apply(change{offset: at, bytes: make([]byte, len(b))})
		case 3:
			garbage := make([]byte, len(b))
			for i := range garbage {
				garbage[i] = byte(rng.Uint32())
			}
			n.apply(change{offset: at, bytes: garbage})
		}
		at = end
	}
}
