package crashfs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
)

// maxSubsetNames is up to how many unsynced names all subsets are states. Of more, these are: the first few, all but one, and some
// drawn at random.
const (
	maxSubsetNames = 10
	drawnSubsets   = 256
)

// maxCount is what counts stop at.
const maxCount = 1 << 62

// States are the states that a power cut at a Moment may leave, numbered from 0. A state is a choice of the unsynced names that
// survive; and, for each unsynced write of a file that has a name then, a choice for each of its sectors: the new bytes, the old ones,
// zeros, or garbage; for each truncation whether it happened; and whether the file's size is that of its data, or got there ahead of it.
// Choices that make no difference are left out as far as that can be told without comparing whole states.
type States struct {
	sector  int64
	layouts []layout
	count   uint64
	all     bool
}

// layout is a choice of names.
type layout struct {
	root  *place
	files []*found // those with choices
	first uint64   // the number of its first state
	count uint64
}

// place is a directory as it is found.
type place struct {
	dirs  map[string]*place
	files map[string]*found
}

// found is a file as it is found, and what may be chosen of it. Layouts share them.
type found struct {
	node    *inode
	choices []choice
	// ahead says that the size may be ahead of the data.
	ahead bool
	count uint64
}

// choice is what may become of a sector of a change, or of a whole truncation.
type choice struct {
	change     int
	begin, end int64
	outcomes   []outcome
}

type outcome uint8

const (
	renewed outcome = iota
	kept
	zeroed
	garbled
)

// States returns the states at a Moment for a device whose sectors have the given size: a sector is torn wholly or not at all.
func (m *Moment) States(sectorBytes int64) *States {
	s := &States{sector: sectorBytes}
	var changes []pendingName
	m.root.pending(&changes, map[*inode]bool{})
	plans, seen := map[*inode]*found{}, map[string]bool{}
	ids := map[*inode]uint64{}
	s.all = s.subsets(len(changes), func(chosen []bool) {
		root, signature := s.layout(m.root, changes, chosen, plans, ids)
		if seen[string(signature)] {
			return
		}
		seen[string(signature)] = true
		l := layout{root: root, first: s.count, count: 1}
		root.walk(func(f *found) {
			if f.count > 1 {
				l.files = append(l.files, f)
				l.count = multiply(l.count, f.count)
			}
		})
		s.count = min(maxCount, s.count+l.count)
		s.layouts = append(s.layouts, l)
	})
	return s
}

// Count is the number of states. Beyond 2^62 it is not known, and is that.
func (s *States) Count() uint64 { return s.count }

// Enumerable says whether State can make every one of them.
func (s *States) Enumerable() bool { return s.all && s.count < maxCount }

// State makes the i-th state. It depends on i and the Moment alone.
func (s *States) State(i uint64) *FS {
	at, exact := slices.BinarySearchFunc(s.layouts, i, func(l layout, i uint64) int { return cmp.Compare(l.first, i) })
	if !exact {
		at--
	}
	l := &s.layouts[at]
	i -= l.first
	return l.make(0, func(_ *found, radix int) int {
		digit := i % uint64(radix)
		i /= uint64(radix)
		return int(digit)
	})
}

// Sample makes a state that depends on rng and the Moment alone. Those that a journal, or a disk without reordering, would leave are
// more likely than others.
func (s *States) Sample(rng *rand.Rand) *FS {
	l := &s.layouts[rng.IntN(len(s.layouts))]
	if len(l.files) == 0 { // a single state
		l = &s.layouts[rng.IntN(len(s.layouts))]
	}
	digits := map[*found][]int{}
	for _, f := range l.files {
		digits[f] = f.sample(rng)
	}
	return l.make(rng.Uint64(), func(f *found, _ int) int {
		d := digits[f]
		digits[f] = d[1:]
		return d[0]
	})
}

// pendingName is an unsynced name and the directory that it is in.
type pendingName struct {
	dir    *dir
	change nameChange
}

// pending lists the unsynced names of a tree, in the order of the tree.
func (n *inode) pending(changes *[]pendingName, seen map[*inode]bool) {
	if n.dir == nil || seen[n] {
		return
	}
	seen[n] = true
	for _, c := range n.dir.changes {
		*changes = append(*changes, pendingName{n.dir, c})
	}
	for _, names := range []map[string]*inode{n.dir.durable, n.dir.names} {
		for _, name := range sortedKeys(names) {
			names[name].pending(changes, seen)
		}
	}
	for _, c := range n.dir.changes {
		c.node.pending(changes, seen)
	}
}

// subsets calls fn for every choice among n unsynced names, and reports whether that were all.
func (s *States) subsets(n int, fn func(chosen []bool)) (all bool) {
	chosen := make([]bool, n)
	if n <= maxSubsetNames {
		for mask := range 1 << n {
			for i := range chosen {
				chosen[i] = mask>>i&1 == 1
			}
			fn(chosen)
		}
		return true
	}
	for first := range n + 1 {
		for i := range chosen {
			chosen[i] = i < first
		}
		fn(chosen)
	}
	for omitted := range n {
		for i := range chosen {
			chosen[i] = i != omitted
		}
		fn(chosen)
	}
	rng := rand.New(rand.NewPCG(uint64(n), drawnSubsets))
	for range drawnSubsets {
		for i := range chosen {
			chosen[i] = rng.IntN(2) == 0
		}
		fn(chosen)
	}
	return false
}

// layout returns the tree that a choice of names leaves, and a signature that equal trees share.
func (s *States) layout(root *inode, changes []pendingName, chosen []bool, plans map[*inode]*found, ids map[*inode]uint64) (*place, []byte) {
	var signature []byte
	var lay func(n *inode) *place
	lay = func(n *inode) *place {
		names := n.dir.durable
		copied := false
		for i := range changes {
			if changes[i].dir != n.dir || !chosen[i] {
				continue
			}
			if !copied {
				names, copied = maps.Clone(names), true
			}
			changes[i].change.apply(names)
		}
		p := &place{dirs: map[string]*place{}, files: map[string]*found{}}
		for _, name := range sortedKeys(names) {
			below := names[name]
			if _, known := ids[below]; !known {
				ids[below] = uint64(len(ids))
			}
			signature = binary.AppendUvarint(append(append(signature, name...), '/'), ids[below])
			if below.dir != nil {
				p.dirs[name] = lay(below)
				signature = append(signature, "//"...)
				continue
			}
			if plans[below] == nil {
				plans[below] = s.plan(below)
			}
			p.files[name] = plans[below]
		}
		return p
	}
	return lay(root), signature
}

// walk calls fn for all files, in the order of their names.
func (p *place) walk(fn func(*found)) {
	for _, name := range sortedKeys(p.files) {
		fn(p.files[name])
	}
	for _, name := range sortedKeys(p.dirs) {
		p.dirs[name].walk(fn)
	}
}

// plan lists what may be chosen of a file.
func (s *States) plan(n *inode) *found {
	f := &found{node: n, count: 1}
	for i, c := range n.changes {
		if c.bytes == nil {
			f.add(choice{change: i, outcomes: []outcome{renewed, kept}})
			continue
		}
		for begin := c.offset; begin < c.offset+int64(len(c.bytes)); {
			end := min((begin/s.sector+1)*s.sector, c.offset+int64(len(c.bytes)))
			f.add(choice{change: i, begin: begin, end: end, outcomes: n.outcomes(i, begin, end)})
			begin = end
		}
	}
	if len(n.changes) > 0 && len(n.contents) > len(n.durable) {
		f.ahead = true
		f.count = multiply(f.count, 2)
	}
	return f
}

func (f *found) add(c choice) {
	f.choices = append(f.choices, c)
	f.count = multiply(f.count, uint64(len(c.outcomes)))
}

// outcomes lists what may become of a sector of the i-th change, without those that are the same in any case.
func (n *inode) outcomes(i int, begin, end int64) []outcome {
	c := n.changes[i]
	fresh := c.bytes[begin-c.offset : end-c.offset]
	list := []outcome{renewed}
	old, known := n.before(i, begin, end)
	if !known || !bytes.Equal(old, fresh) {
		list = append(list, kept)
	}
	if !isZero(fresh) && (!known || int64(len(old)) < end-begin || !isZero(old)) {
		list = append(list, zeroed)
	}
	return append(list, garbled)
}

// before returns the durable bytes in the place of the i-th change, as far as the file reaches, unless another change has to do with it.
func (n *inode) before(i int, begin, end int64) (old []byte, known bool) {
	for j := range n.changes {
		c := &n.changes[j]
		if j != i && (c.bytes == nil || c.offset < end && begin < c.offset+int64(len(c.bytes))) {
			return nil, false
		}
	}
	if begin >= int64(len(n.durable)) {
		return nil, true
	}
	return n.durable[begin:min(end, int64(len(n.durable)))], true
}

// make builds a state. digit chooses among as many possibilities as it is told, in the order of the choices; garbage is one of many kinds.
func (l *layout) make(garbage uint64, digit func(f *found, radix int) int) *FS {
	made := make(map[*found]*inode, len(l.files))
	for _, f := range l.files {
		made[f] = f.make(garbage, digit)
	}
	return &FS{root: l.root.make(made)}
}

func (p *place) make(made map[*found]*inode) *inode {
	n := newDir()
	for name, f := range p.files {
		node := made[f]
		if node == nil {
			node = &inode{contents: f.node.durable, durable: f.node.durable, contentsShared: true, durableShared: true}
		}
		n.dir.names[name], n.dir.durable[name] = node, node
	}
	for name, below := range p.dirs {
		node := below.make(made)
		n.dir.names[name], n.dir.durable[name] = node, node
	}
	return n
}

func (f *found) make(garbage uint64, digit func(f *found, radix int) int) *inode {
	b := make([]byte, len(f.node.durable), max(len(f.node.durable), len(f.node.contents)))
	copy(b, f.node.durable)
	for i := range f.choices {
		c := &f.choices[i]
		change := &f.node.changes[c.change]
		outcome := c.outcomes[digit(f, len(c.outcomes))]
		if outcome == kept {
			continue
		}
		if change.bytes == nil {
			b = change.apply(b)
			continue
		}
		if c.end > int64(len(b)) {
			b = resize(b, c.end)
		}
		place := b[c.begin:c.end]
		switch outcome {
		case renewed:
			copy(place, change.bytes[c.begin-change.offset:])
		case zeroed:
			clear(place)
		case garbled:
			garble(place, garbage+uint64(c.begin)+uint64(i)<<40)
		}
	}
	if f.ahead && digit(f, 2) == 1 && len(f.node.contents) > len(b) {
		b = resize(b, int64(len(f.node.contents)))
	}
	return &inode{contents: b, durable: b, contentsShared: true, durableShared: true}
}

// sample draws the digits of a file.
func (f *found) sample(rng *rand.Rand) []int {
	digits := make([]int, 0, len(f.choices)+1)
	mode := rng.IntN(6)
	changes := f.choices[len(f.choices)-1].change + 1
	whole := rng.IntN(changes)
	survives := make([]bool, changes)
	for i := range survives {
		survives[i] = rng.IntN(2) == 0
	}
	for i := range f.choices {
		c := &f.choices[i]
		drawn, torn := rng.IntN(len(c.outcomes)), 0
		if keep := slices.Index(c.outcomes, kept); keep >= 0 && rng.IntN(2) == 0 {
			torn = keep
		}
		digit := drawn
		switch mode {
		case 0: // none, where it makes a difference
			digit = max(0, slices.Index(c.outcomes, kept))
		case 1: // all
			digit = 0
		case 2: // they got there in order; the power failed in the midst of one
			switch {
			case c.change < whole:
				digit = 0
			case c.change > whole:
				digit = max(0, slices.Index(c.outcomes, kept))
			}
		case 3: // any of them, whole
			if digit = 0; !survives[c.change] {
				digit = max(0, slices.Index(c.outcomes, kept))
			}
		case 4: // old and new sectors
			digit = torn
		}
		digits = append(digits, digit)
	}
	if f.ahead {
		digits = append(digits, max(0, rng.IntN(3)-1))
	}
	return digits
}

// garble fills b with bytes that depend on seed. They look like nothing in particular.
func garble(b []byte, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 + 0x6a09e667f3bcc909
	for i := range b {
		if i%8 == 0 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		b[i] = byte(x >> (i % 8 * 8))
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func multiply(a, b uint64) uint64 {
	if a >= maxCount/b {
		return maxCount
	}
	return a * b
}
