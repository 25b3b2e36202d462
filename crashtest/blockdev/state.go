package blockdev

import (
	"fmt"
	"math/rand/v2"
)

// Choice is which of the pending writes a power cut leaves.
type Choice struct {
	Kind ChoiceKind
	// Seed decides where the kind leaves a choice.
	Seed uint64
	// TearBytes is what is written whole or not at all: SectorBytes or BlockBytes.
	TearBytes int64
}

// ChoiceKind is a family of states.
type ChoiceKind int

// The kinds.
const (
	// Nothing reached the medium after the last flush.
	Nothing ChoiceKind = iota
	// Everything did: the state that the death of the process alone leaves.
	Everything
	// InOrder: some of the first writes did, the next one in part.
	InOrder
	// AllButOne: a single write is missing, or torn.
	AllButOne
	// OnlyOne: a single write, the latest more often than others, has overtaken all.
	OnlyOne
	// Subset: each write did, did not, or did in part.
	Subset
	choiceKinds
)

func (k ChoiceKind) String() string {
	return [...]string{"nothing", "everything", "in order", "all but one", "only one", "subset"}[k]
}

func (c Choice) String() string {
	return fmt.Sprintf("%s of the writes since the last flush (seed %d, torn at %d bytes)", c.Kind, c.Seed, c.TearBytes)
}

// fate is what becomes of one write.
type fate int

const (
	lost fate = iota
	whole
	torn
)

// Tally counts what became of the pending writes.
type Tally struct{ Lost, Whole, Torn int }

// State makes the image that the medium holds after the cut.
func (c *Capture) State(choice Choice) (image, Tally) {
	rng := rand.New(rand.NewPCG(choice.Seed, uint64(choice.Kind)))
	fates := choice.fates(rng, len(c.pending))
	im := c.durable.clone()
	var tally Tally
	for i := range c.pending {
		w := &c.pending[i]
		if fates[i] == torn && w.length <= choice.TearBytes {
			fates[i] = fate(rng.IntN(2)) // it cannot be torn
		}
		switch fates[i] {
		case lost:
			tally.Lost++
		case whole:
			tally.Whole++
			w.keep(im, w.offset, w.offset+w.length)
		case torn:
			tally.Torn++
			w.tear(im, rng, choice.TearBytes)
		}
	}
	return im, tally
}

func (c Choice) fates(rng *rand.Rand, n int) []fate {
	fates := make([]fate, n)
	if n == 0 {
		return fates
	}
	fill := func(with fate) {
		for i := range fates {
			fates[i] = with
		}
	}
	one := rng.IntN(n)
	switch c.Kind {
	case Nothing:
	case Everything:
		fill(whole)
	case InOrder:
		for i := range one {
			fates[i] = whole
		}
		fates[one] = torn
	case AllButOne:
		fill(whole)
		fates[one] = []fate{lost, torn}[rng.IntN(2)]
	case OnlyOne:
		if rng.IntN(2) == 0 {
			one = n - 1
		}
		fates[one] = whole
	case Subset:
		for i := range fates {
			fates[i] = fate(rng.IntN(3))
		}
	default:
		panic("blockdev: unknown kind of choice")
	}
	return fates
}

// keep copies a part of the write's bytes into im.
func (w *write) keep(im image, from, to int64) {
	for at := from; at < to; {
		end := min((at/BlockBytes+1)*BlockBytes, to)
		p := w.after[at/BlockBytes-w.offset/BlockBytes]
		switch {
		case end-at == BlockBytes:
			im[at/BlockBytes] = p
		case p == nil:
			im.place(at, make([]byte, end-at))
		default:
			im.place(at, p[at%BlockBytes:at%BlockBytes+end-at])
		}
		at = end
	}
}

// tear keeps some of the units that the device writes at once, but not all. REQUIRES: the write has more than one.
func (w *write) tear(im image, rng *rand.Rand, unitBytes int64) {
	first, end := w.offset/unitBytes, (w.offset+w.length-1)/unitBytes+1
	keep := make([]bool, end-first)
	if rng.IntN(2) == 0 { // it was cut off
		for i := range 1 + rng.IntN(len(keep)-1) {
			keep[i] = true
		}
	} else {
		for i := range keep {
			keep[i] = rng.IntN(2) == 0
		}
		pair := rng.Perm(len(keep))
		keep[pair[0]], keep[pair[1]] = true, false
	}
	for i, kept := range keep {
		if unit := first + int64(i); kept {
			w.keep(im, max(unit*unitBytes, w.offset), min((unit+1)*unitBytes, w.offset+w.length))
		}
	}
}
