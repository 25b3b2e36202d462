package batch

import (
	"cmp"
	"slices"
)

const (
	// Fewer records than this are sorted by comparison: clearing the counters below would cost more.
	minRadixRecords = 1024
	digitBits       = 11
	digits          = 1 << digitBits
)

// timeKey stands for one record while they are sorted.
type timeKey struct {
	// offset is the record's timestamp less the least of all.
	offset uint64
	index  uint32
}

// sorter is the room that sorting needs: 32 bytes a record, only where the records are not in order.
type sorter struct {
	keys, spare []timeKey
	counts      [digits]uint32
}

// SortByTime orders the records from index begin on by timestamp, then by LSN. Records that are in order already, as those of one
// client mostly are, cost one comparison each.
func (r *Rows) SortByTime(begin int) {
	refs := r.Refs[begin:]
	byLSN, byTime, least, greatest := order(refs)
	switch {
	case byTime:
		return
	case !byLSN || len(refs) < minRadixRecords:
		slices.SortFunc(refs, compareTimes)
		return
	}
	if r.sorter == nil {
		r.sorter = new(sorter)
	}
	r.sorter.sort(refs, least, greatest)
}

func compareTimes(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.TimeUnixNano, b.TimeUnixNano), cmp.Compare(a.LSN, b.LSN))
}

// order says whether refs ascend by LSN, whether they are sorted by timestamp and LSN, and what bounds their timestamps.
func order(refs []Ref) (byLSN, byTime bool, least, greatest int64) {
	if len(refs) == 0 {
		return true, true, 0, 0
	}
	byLSN, byTime, least, greatest = true, true, refs[0].TimeUnixNano, refs[0].TimeUnixNano
	for i := 1; i < len(refs); i++ {
		before, ref := &refs[i-1], &refs[i]
		if ref.LSN < before.LSN {
			byLSN = false
		}
		if ref.TimeUnixNano < before.TimeUnixNano || ref.TimeUnixNano == before.TimeUnixNano && ref.LSN < before.LSN {
			byTime = false
		}
		least, greatest = min(least, ref.TimeUnixNano), max(greatest, ref.TimeUnixNano)
	}
	return byLSN, byTime, least, greatest
}

// sort sorts refs, which ascend by LSN, by the digits of their timestamps, the lowest first. Each pass keeps the order of
// equals, so records with one timestamp stay in the order of their LSNs.
func (s *sorter) sort(refs []Ref, least, greatest int64) {
	s.keys = slices.Grow(s.keys[:0], len(refs))[:len(refs)]
	s.spare = slices.Grow(s.spare[:0], len(refs))[:len(refs)]
	for i := range refs {
		// The difference of two int64 fits a uint64, whatever their signs.
		s.keys[i] = timeKey{uint64(refs[i].TimeUnixNano) - uint64(least), uint32(i)}
	}
	span := uint64(greatest) - uint64(least)
	for shift := 0; span>>shift > 0; shift += digitBits {
		s.pass(shift)
	}
	permute(refs, s.keys)
}

func (s *sorter) pass(shift int) {
	clear(s.counts[:])
	for i := range s.keys {
		s.counts[s.keys[i].offset>>shift&(digits-1)]++
	}
	next := uint32(0)
	for d, n := range s.counts {
		s.counts[d] = next
		next += n
	}
	for _, k := range s.keys {
		d := k.offset >> shift & (digits - 1)
		s.spare[s.counts[d]] = k
		s.counts[d]++
	}
	s.keys, s.spare = s.spare, s.keys
}

// permute moves refs[keys[i].index] to refs[i] for every i, following each cycle once. It spoils keys.
func permute(refs []Ref, keys []timeKey) {
	for start := range refs {
		if int(keys[start].index) == start {
			continue
		}
		first, at := refs[start], start
		for {
			from := int(keys[at].index)
			keys[at].index = uint32(at)
			if from == start {
				refs[at] = first
				break
			}
			refs[at] = refs[from]
			at = from
		}
	}
}
