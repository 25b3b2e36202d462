package powercut

import (
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
)

// node is a file or a directory.
type node interface {
	// settle decides what a cut leaves; rng nil: only what was synced.
	settle(stats *Stats, rng *rand.Rand)
	allocatedBytes() int64
}

// file is a regular file.
type file struct {
	path    string // the last name it was given
	data    []byte // what readers see
	durable []byte
	pending []write // since the last sync, in order
	// synced counts the writes that have left pending since the file was made, so that a sync can say which ones it covers.
	synced int
	// forgotten: a failed sync has dropped writes that readers still see.
	forgotten bool
	blocks    blocks
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

// written counts the writes since the file was made.
func (f *file) written() int { return f.synced + len(f.pending) }

// take removes from pending the writes up to number upTo, and returns them.
func (f *file) take(upTo int) []write {
	n := max(0, upTo-f.synced)
	taken := f.pending[:n:n]
	f.pending = f.pending[n:]
	if len(f.pending) == 0 {
		f.pending = nil
	}
	f.synced += n
	return taken
}

// sync makes the writes up to number upTo durable.
func (f *file) sync(upTo int) {
	for _, w := range f.take(upTo) {
		if w.bytes == nil {
			f.durable = resized(f.durable, w.offset)
		} else {
			f.durable = place(f.durable, w.offset, w.bytes)
		}
	}
}

// forget is a sync that fails: what it was to sync has a fate now, and counts as clean.
func (f *file) forget(upTo int, stats *Stats, rng *rand.Rand) {
	f.decide(f.take(upTo), stats, rng)
	f.forgotten = true
}

func (f *file) settle(stats *Stats, rng *rand.Rand) {
	if len(f.pending) == 0 && !f.forgotten {
		return
	}
	f.decide(f.take(f.written()), stats, rng)
	f.forgotten = false
	f.data = slices.Clone(f.durable)
}

// decide gives each of some writes its fate.
func (f *file) decide(writes []write, stats *Stats, rng *rand.Rand) {
	for _, w := range writes {
		switch {
		case rng == nil:
			stats.SectorsLost += (len(w.bytes) + SectorBytes - 1) / SectorBytes
		case w.bytes != nil:
			f.settleWrite(stats, rng, w)
		case rng.IntN(2) == 0:
			f.durable = resized(f.durable, w.offset)
		}
	}
}

// settleWrite picks a fate for the whole write first, so that whole and absent writes are frequent, then one for each sector of the
// others, which are torn. Fates follow the device's sectors, not the write's start.
func (f *file) settleWrite(stats *Stats, rng *rand.Rand, w write) {
	fate := rng.IntN(4)
	for start := w.offset; start < w.offset+int64(len(w.bytes)); {
		end := min((start/SectorBytes+1)*SectorBytes, w.offset+int64(len(w.bytes)))
		part := w.bytes[start-w.offset : end-w.offset]
		roll := rng.IntN(100)
		switch {
		case fate == 0 || fate >= 2 && roll < 48:
			stats.SectorsLost++
		case fate == 1 || roll < 96:
			f.durable = place(f.durable, start, part)
			stats.SectorsKept++
		default:
			f.durable = place(f.durable, start, damaged(rng, len(part)))
			stats.SectorsDamaged++
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
	path    string
	names   map[string]node // what lookups see
	durable map[string]node
	pending []change // since the last sync, in order
	synced  int      // as in file
	// forgotten: a failed sync has dropped changes that look-ups still see.
	forgotten bool
}

// change sets or removes names, all of them or none.
type change map[string]node

func newDirectory(path string) *directory {
	return &directory{path: path, names: map[string]node{}, durable: map[string]node{}}
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

// at is the path of a name in the directory.
func (dir *directory) at(name string) string {
	if dir.path == "" {
		return name
	}
	return dir.path + "/" + name
}

func (dir *directory) change(c change) {
	dir.pending = append(dir.pending, c)
	c.apply(dir.names)
}

func (dir *directory) changed() int { return dir.synced + len(dir.pending) }

func (dir *directory) take(upTo int) []change {
	n := max(0, upTo-dir.synced)
	taken := dir.pending[:n:n]
	dir.pending = dir.pending[n:]
	dir.synced += n
	return taken
}

// sync makes the changes up to number upTo durable.
func (dir *directory) sync(upTo int) {
	for _, c := range dir.take(upTo) {
		c.apply(dir.durable)
	}
}

// forget is a sync that fails.
func (dir *directory) forget(upTo int, stats *Stats, rng *rand.Rand) {
	dir.decide(dir.take(upTo), stats, rng)
	dir.forgotten = true
}

func (dir *directory) decide(changes []change, stats *Stats, rng *rand.Rand) {
	for _, c := range changes {
		if rng != nil && rng.IntN(2) == 0 {
			c.apply(dir.durable)
			stats.NamesKept++
		} else {
			stats.NamesLost++
		}
	}
}

func (dir *directory) settle(stats *Stats, rng *rand.Rand) {
	if len(dir.pending) > 0 || dir.forgotten {
		dir.decide(dir.take(dir.changed()), stats, rng)
		dir.names, dir.forgotten = maps.Clone(dir.durable), false
	}
	// Sorted, so that one seed makes one state.
	for _, name := range slices.Sorted(maps.Keys(dir.names)) {
		dir.names[name].settle(stats, rng)
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
	} else {
		to.change(change{newName: n})
		from.change(change{oldName: nil})
	}
	if f, ok := n.(*file); ok {
		f.path = to.at(newName)
	}
	return 0
}
