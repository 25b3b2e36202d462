package memtable

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
)

// Batch is one request as the log holds it. All its records belong to one (tenant, endpoint).
type Batch struct {
	// Buf owns the memory behind Raw.
	Buf *slab.Buf
	// Raw is the encoded WriteBatchRequest.
	Raw []byte
	// First is the log position of the first record, Last that of the last one.
	First, Last uint64
	// MinTimeUnixNano and MaxTimeUnixNano bound the records' timestamps; both are 0 where nobody has looked, as after a replay.
	MinTimeUnixNano, MaxTimeUnixNano int64
}

// Records is the number of records in the batch.
func (b *Batch) Records() int { return int(b.Last - b.First + 1) }

// Table holds the batches of one (tenant, endpoint), in log order. It is never empty.
type Table struct {
	Tenant, Endpoint string
	Batches          []Batch
	Records          int
	// Bytes is the sum of the lengths of Raw.
	Bytes int64
}

// Generation is an immutable set of tables that together hold every record from First to Last; or it is a gap, which has no
// tables. It is safe for concurrent reading while retained.
type Generation struct {
	First, Last uint64
	// Tables are sorted by tenant, then endpoint, once Sort was called, and must not be read before.
	Tables []*Table
	// Stamps identify the batches that came from idempotent producers, in log order.
	Stamps  []dedupe.Stamp
	Batches int
	// Bytes is what the generation holds of the slab pool's budget.
	Bytes int64

	sorting    sync.Once
	references atomic.Int32
	parent     *Generation // owner of the buffers, for a view
}

// NewGap returns a generation for the positions from first to last when the log has no records there, with one reference,
// the caller's. A sink stores nothing for it and moves its checkpoint to last.
func NewGap(first, last uint64) *Generation {
	g := &Generation{First: first, Last: last}
	g.references.Store(1)
	return g
}

// IsGap says that there are no records from First to Last.
func (g *Generation) IsGap() bool { return len(g.Tables) == 0 }

// Records is the number of records in the generation.
func (g *Generation) Records() uint64 {
	if g.IsGap() {
		return 0
	}
	return g.Last - g.First + 1
}

// Sort sorts the tables, the first time that it is called.
func (g *Generation) Sort() {
	g.sorting.Do(func() {
		slices.SortFunc(g.Tables, func(a, b *Table) int {
			return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Endpoint, b.Endpoint))
		})
	})
}

// Above returns the part of g that lies above lsn, with one reference, the caller's. It shares g's buffers and keeps
// them alive. It returns nil where nothing lies above. No batch may lie on both sides of lsn: checkpoints stand
// between batches; an error says that one does. REQUIRES: as for Retain.
func (g *Generation) Above(lsn uint64) (*Generation, error) {
	if lsn >= g.Last {
		return nil, nil
	}
	g.Sort()
	view := &Generation{First: max(g.First, lsn+1), Last: g.Last, parent: g}
	for _, table := range g.Tables {
		part := &Table{Tenant: table.Tenant, Endpoint: table.Endpoint}
		for _, b := range table.Batches {
			if b.Last <= lsn {
				continue
			}
			if b.First <= lsn {
				return nil, fmt.Errorf("checkpoint at LSN %d within the batch %d-%d", lsn, b.First, b.Last)
			}
			part.Batches = append(part.Batches, b)
			part.Records += b.Records()
			part.Bytes += int64(len(b.Raw))
			view.Bytes += int64(b.Buf.SizeBytes())
		}
		if len(part.Batches) > 0 {
			view.Tables = append(view.Tables, part)
			view.Batches += len(part.Batches)
		}
	}
	for i := range g.Stamps {
		if g.Stamps[i].FirstLSN > lsn {
			view.Stamps = g.Stamps[i:]
			break
		}
	}
	g.Retain()
	view.references.Store(1)
	return view, nil
}

// Retain adds a reference. REQUIRES: the caller holds one, or a lock under which one is held.
func (g *Generation) Retain() {
	if g.references.Add(1) <= 1 {
		panic(fmt.Sprintf("memtable: generation %d-%d retained after its release", g.First, g.Last))
	}
}

// Release drops a reference. The last one gives the buffers back; the tables must not be used after it.
func (g *Generation) Release() {
	switch n := g.references.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic(fmt.Sprintf("memtable: generation %d-%d released too often", g.First, g.Last))
	}
	if g.parent != nil {
		g.parent.Release()
		return
	}
	for _, table := range g.Tables {
		for i := range table.Batches {
			table.Batches[i].Buf.Release()
		}
	}
	g.Tables, g.Stamps = nil, nil
}
