package processor

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

// entry is a range of the log between two checkpoints that some sink has yet to flush.
type entry struct {
	first, last uint64
	// generation is nil where the range is not in memory.
	generation *memtable.Generation
	// absorbed: the dedupe copy has the generation's stamps. Only then it may leave memory.
	absorbed bool
}

// backlog lists what is sealed and not flushed by all sinks, in log order, without gaps. Safe for concurrent use.
type backlog struct {
	memoryBytes int64

	mu      sync.Mutex
	entries []*entry
	// end is the last sealed record.
	end       uint64
	heldBytes int64
	// low is the lowest checkpoint of all sinks, passed the highest: what lies between them only the laggards need.
	low, passed uint64
	dropped     uint64 // generations that left memory before all sinks had flushed them
}

// reset makes the backlog the range first to end, none of it in memory; an empty one where first is above end.
func (b *backlog) reset(first, end uint64) {
	b.entries, b.end = nil, end
	if first <= end {
		b.entries = []*entry{{first: first, last: end, absorbed: true}}
	}
}

// add appends a generation and takes over the caller's reference.
func (b *backlog) add(g *memtable.Generation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.First != b.end+1 {
		panic(fmt.Sprintf("processor: generation %d-%d after LSN %d", g.First, g.Last, b.end))
	}
	b.entries = append(b.entries, &entry{first: g.First, last: g.Last, generation: g})
	b.end = g.Last
	b.heldBytes += g.Bytes
	b.shrinkLocked()
}

func (b *backlog) lastLSN() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.end
}

func (b *backlog) held() (bytes int64, dropped uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heldBytes, b.dropped
}

// next returns what a sink at the given checkpoint has to flush: the part of a generation above it, with a reference
// for the caller; or, where that is not in memory, nil and the last record of the range to read from the log; or nil
// and 0 for nothing.
func (b *backlog) next(flushed uint64) (g *memtable.Generation, last uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := sort.Search(len(b.entries), func(i int) bool { return b.entries[i].last > flushed })
	if i == len(b.entries) {
		return nil, 0, nil
	}
	e := b.entries[i]
	switch {
	case e.generation == nil:
		return nil, e.last, nil
	case e.first > flushed:
		e.generation.Retain()
		return e.generation, e.last, nil
	}
	g, err = e.generation.Above(flushed)
	return g, e.last, err
}

// unabsorbed returns the generations whose stamps the dedupe copy does not have, in order, with a reference each.
func (b *backlog) unabsorbed() []*memtable.Generation {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []*memtable.Generation
	for _, e := range b.entries {
		if !e.absorbed {
			e.generation.Retain()
			list = append(list, e.generation)
		}
	}
	return list
}

// absorbedUpTo says that the dedupe copy knows all batches up to lsn.
func (b *backlog) absorbedUpTo(lsn uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.last <= lsn {
			e.absorbed = true
		}
	}
	b.removeLocked()
	b.shrinkLocked()
}

// flushedUpTo says that all sinks have flushed up to low, and one of them up to high.
func (b *backlog) flushedUpTo(low, high uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.passed = max(b.passed, high)
	b.low = max(b.low, low)
	b.removeLocked()
	b.shrinkLocked()
}

// removeLocked takes the entries off the front that are flushed by all sinks and absorbed.
func (b *backlog) removeLocked() {
	n := 0
	for n < len(b.entries) && b.entries[n].last <= b.low && b.entries[n].absorbed {
		b.forgetLocked(b.entries[n])
		n++
	}
	b.entries = slices.Delete(b.entries, 0, n)
}

// shrinkLocked drops generations from memory until the budget is kept. First go, oldest first, those that only
// laggards need; then, newest first, those that are needed last. Each is needed once, in the order in which they came, so that no other
// choice has fewer of them read back from the log: what is kept is what is needed next.
//
// It does not make a worker that is slower than ingest read little back. A generation waits for as long as the worker is behind, so that
// memory serves the share MemoryBytes / (how far behind, in bytes) of what is flushed, whatever is dropped. Reading back has to
// be cheap instead: see replayer and wal.Replay.
//
// The newest generation may be above the budget until the dedupe copy has it, a moment after it was sealed: otherwise an older one,
// which is needed earlier, would go in its place.
func (b *backlog) shrinkLocked() {
	if n := len(b.entries); n > 0 {
		if e := b.entries[n-1]; !e.absorbed && b.heldBytes-e.generation.Bytes <= b.memoryBytes {
			return
		}
	}
	drop := func(e *entry) {
		if b.heldBytes > b.memoryBytes && e.generation != nil && e.absorbed {
			b.forgetLocked(e)
			b.dropped++
		}
	}
	for _, e := range b.entries {
		if e.last <= b.passed {
			drop(e)
		}
	}
	for i := len(b.entries) - 1; i >= 0; i-- {
		drop(b.entries[i])
	}
	b.mergeLocked()
}

// mergeLocked makes one entry of neighbours that are not in memory: a sink that is down for long must not make the
// list long.
func (b *backlog) mergeLocked() {
	kept := b.entries[:0]
	for _, e := range b.entries {
		if n := len(kept); n > 0 && kept[n-1].generation == nil && e.generation == nil {
			kept[n-1].last = e.last
			continue
		}
		kept = append(kept, e)
	}
	clear(b.entries[len(kept):])
	b.entries = kept
}

func (b *backlog) forgetLocked(e *entry) {
	if e.generation != nil {
		b.heldBytes -= e.generation.Bytes
		e.generation.Release()
		e.generation = nil
	}
}

// clear releases everything.
func (b *backlog) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		b.forgetLocked(e)
	}
	b.entries = nil
}
