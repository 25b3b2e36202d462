package memtable

import (
	"fmt"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
)

// Limits say when a Set is full. The first one that is reached counts.
type Limits struct {
	// GenerationBytes bounds what the set holds of the slab budget.
	GenerationBytes int64
	// GenerationRecords bounds the number of records.
	GenerationRecords uint64
	// GenerationAge bounds the time since the first batch.
	GenerationAge time.Duration
}

// Validate says what is wrong with the limits.
func (l Limits) Validate() error {
	if l.GenerationBytes <= 0 || l.GenerationRecords == 0 || l.GenerationAge <= 0 {
		return fmt.Errorf("memtable limits must be positive: %d bytes, %d records, age %s",
			l.GenerationBytes, l.GenerationRecords, l.GenerationAge)
	}
	return nil
}

// Set is the mutable generation: one table for each (tenant, endpoint). It is used again after Seal. Not safe for
// concurrent use.
type Set struct {
	tables map[string]map[string]*Table // by tenant, endpoint

	first, last uint64
	tableCount  int
	batches     int
	bytes       int64
	openedAt    time.Time
	stamps      []dedupe.Stamp
}

// NewSet returns an empty set.
func NewSet() *Set { return &Set{tables: make(map[string]map[string]*Table)} }

// Empty says whether there is nothing to seal.
func (s *Set) Empty() bool { return s.batches == 0 }

// Bytes is what the set holds of the slab budget.
func (s *Set) Bytes() int64 { return s.bytes }

// Records is the number of records in the set.
func (s *Set) Records() uint64 {
	if s.Empty() {
		return 0
	}
	return s.last - s.first + 1
}

// OpenedAt is the time that was given with the first batch.
func (s *Set) OpenedAt() time.Time { return s.openedAt }

// Full says whether the set has reached a limit at time now.
func (s *Set) Full(l Limits, now time.Time) bool {
	return !s.Empty() &&
		(s.bytes >= l.GenerationBytes || s.Records() >= l.GenerationRecords || now.Sub(s.openedAt) >= l.GenerationAge)
}

// Insert adds a batch and takes over its buffer. endpoint is copied where it is new. stamp is nil for a batch without a
// producer, and is copied. REQUIRES: batches come in log order without gaps.
func (s *Set) Insert(tenant string, endpoint []byte, b Batch, stamp *dedupe.Stamp, now time.Time) {
	if s.Empty() {
		s.first, s.openedAt = b.First, now
	} else if b.First != s.last+1 {
		panic(fmt.Sprintf("memtable: batch at LSN %d after LSN %d", b.First, s.last))
	}
	table := s.table(tenant, endpoint)
	table.Batches = append(table.Batches, b)
	table.Records += b.Records()
	table.Bytes += int64(len(b.Raw))
	if stamp != nil {
		s.stamps = append(s.stamps, *stamp)
	}
	s.last = b.Last
	s.batches++
	s.bytes += int64(b.Buf.SizeBytes())
}

func (s *Set) table(tenant string, endpoint []byte) *Table {
	endpoints := s.tables[tenant]
	if endpoints == nil {
		endpoints = make(map[string]*Table)
		s.tables[tenant] = endpoints
	}
	table := endpoints[string(endpoint)] // the compiler looks it up without a copy
	if table == nil {
		table = &Table{Tenant: tenant, Endpoint: string(endpoint)}
		endpoints[table.Endpoint] = table
		s.tableCount++
	}
	return table
}

// Seal returns the content as a generation with one reference, the caller's, and empties the set. The tables are not sorted yet:
// with thousands of them that takes longer than a commit, and belongs on the goroutine that flushes. REQUIRES: not Empty.
func (s *Set) Seal() *Generation {
	if s.Empty() {
		panic("memtable: seal of an empty set")
	}
	g := &Generation{
		First: s.first, Last: s.last,
		Tables:  make([]*Table, 0, s.tableCount),
		Stamps:  s.stamps,
		Batches: s.batches,
		Bytes:   s.bytes,
	}
	g.references.Store(1)
	for _, endpoints := range s.tables {
		for _, table := range endpoints {
			g.Tables = append(g.Tables, table)
		}
	}
	*s = Set{tables: make(map[string]map[string]*Table, len(s.tables))}
	return g
}

// Discard releases the buffers of everything in the set, and empties it.
func (s *Set) Discard() {
	if !s.Empty() {
		s.Seal().Release()
	}
}
