package dedupe

import "fmt"

// WindowBatches is the number of batches remembered for each producer. proto/storage/ingestion.proto promises it.
const WindowBatches = 128

// ProducerID is chosen by the client at random.
type ProducerID = [16]byte

// Stamp identifies one batch and says where the log holds it.
type Stamp struct {
	Tenant   string
	Producer ProducerID
	Epoch    uint32
	Records  uint32
	Sequence uint64
	// FirstLSN is the log position of the batch's first record.
	FirstLSN uint64
}

// Verdict is what a table knows of a batch.
type Verdict uint8

// The verdicts.
const (
	// Fresh: the batch has not been stored.
	Fresh Verdict = iota
	// Duplicate: it is stored, or staged to be.
	Duplicate
	// Fenced: a higher epoch of the producer has stored batches.
	Fenced
	// OutOfOrder: the sequence is not above the last one, and the window does not hold it.
	OutOfOrder
)

type key struct {
	tenant   string
	producer ProducerID
}

// entry is one remembered batch of the producer's current epoch.
type entry struct {
	sequence uint64
	firstLSN uint64
	records  uint32
}

// producer is a node of the list of all producers in the order in which they last stored a batch. Invariant: entries
// are in the order of their sequences, beginning at oldest, and all of the current epoch.
type producer struct {
	key      key
	epoch    uint32
	last     uint64
	entries  []entry // a ring once it holds WindowBatches entries
	oldest   int
	previous *producer
	next     *producer

	// While a group is staged: how many of its batches are this producer's, and its epoch and last sequence with them.
	staged      int
	stagedEpoch uint32
	stagedLast  uint64
}

// Table remembers producers. The zero value is not usable.
type Table struct {
	maxProducers int
	producers    map[key]*producer
	// list is the sentinel of a ring: list.next stored longest ago, list.previous last.
	list   producer
	listed int
	staged []Stamp
	// appliedLSN is the last record of the last batch that was applied.
	appliedLSN uint64
	forgotten  uint64
}

// New returns an empty table of at most maxProducers producers. REQUIRES: maxProducers > 0.
func New(maxProducers int) *Table {
	if maxProducers <= 0 {
		panic(fmt.Sprintf("dedupe: table of %d producers", maxProducers))
	}
	t := &Table{maxProducers: maxProducers, producers: make(map[key]*producer)}
	t.list.previous, t.list.next = &t.list, &t.list
	return t
}

// Producers is the number of producers that are remembered.
func (t *Table) Producers() int { return t.listed }

// Forgotten counts the producers that had to make room for others since the table was made.
func (t *Table) Forgotten() uint64 { return t.forgotten }

// AppliedLSN is the log position up to which the table knows all batches.
func (t *Table) AppliedLSN() uint64 { return t.appliedLSN }

// Advance says that the table knows all batches up to lsn: those above AppliedLSN came without a producer.
func (t *Table) Advance(lsn uint64) { t.appliedLSN = max(t.appliedLSN, lsn) }

// Check looks s up, staged batches included. For a Duplicate it returns the batch's first log position and record
// count. FirstLSN and Records of s are not looked at. It does not change the table and does not allocate.
func (t *Table) Check(s *Stamp) (v Verdict, firstLSN uint64, records uint32) {
	p := t.producers[key{s.Tenant, s.Producer}]
	if p == nil {
		return Fresh, 0, 0
	}
	epoch, last := p.epoch, p.last
	if p.staged > 0 {
		epoch, last = p.stagedEpoch, p.stagedLast
	}
	switch {
	case s.Epoch < epoch:
		return Fenced, 0, 0
	case s.Epoch > epoch || s.Sequence > last:
		return Fresh, 0, 0
	}
	if e := t.find(p, s); e.records > 0 {
		return Duplicate, e.firstLSN, e.records
	}
	return OutOfOrder, 0, 0
}

// find returns p's batch of s's epoch and sequence; one with no records where there is none.
func (t *Table) find(p *producer, s *Stamp) entry {
	if p.staged > 0 {
		for i := len(t.staged) - 1; i >= 0; i-- {
			c := &t.staged[i]
			if c.Producer == s.Producer && c.Tenant == s.Tenant && c.Epoch == s.Epoch && c.Sequence == s.Sequence {
				return entry{sequence: c.Sequence, firstLSN: c.FirstLSN, records: c.Records}
			}
		}
	}
	if p.epoch == s.Epoch {
		for i := range p.entries {
			if p.entries[i].sequence == s.Sequence {
				return p.entries[i]
			}
		}
	}
	return entry{}
}

// Stage adds a batch that is on its way into the log. It counts from now on, but can be taken back. REQUIRES: Check
// said Fresh, and FirstLSN and Records are set.
func (t *Table) Stage(s *Stamp) {
	k := key{s.Tenant, s.Producer}
	p := t.producers[k]
	if p == nil {
		p = &producer{key: k}
		t.producers[k] = p
	}
	p.staged++
	p.stagedEpoch, p.stagedLast = s.Epoch, s.Sequence
	t.staged = append(t.staged, *s)
}

// CommitStaged makes the first n staged batches permanent: the log holds them. REQUIRES: n is at most the number of staged batches.
func (t *Table) CommitStaged(n int) {
	for i := range t.staged[:n] {
		s := &t.staged[i]
		t.producers[key{s.Tenant, s.Producer}].staged--
	}
	for i := range t.staged[:n] {
		t.Apply(&t.staged[i])
	}
	kept := copy(t.staged, t.staged[n:])
	clear(t.staged[kept:]) // drops the strings
	t.staged = t.staged[:kept]
}

// DiscardStaged takes the staged batches back: the log does not hold them.
func (t *Table) DiscardStaged() {
	for i := range t.staged {
		k := key{t.staged[i].Tenant, t.staged[i].Producer}
		if p := t.producers[k]; p != nil {
			p.staged = 0
			if p.next == nil { // it was only staged
				delete(t.producers, k)
			}
		}
	}
	t.clearStaged()
}

func (t *Table) clearStaged() {
	clear(t.staged) // drops the strings
	t.staged = t.staged[:0]
}

// Apply adds a batch that the log holds. Batches must come in the order of the log; one at or below AppliedLSN is
// skipped.
func (t *Table) Apply(s *Stamp) {
	if s.FirstLSN <= t.appliedLSN {
		return
	}
	k := key{s.Tenant, s.Producer}
	p := t.producers[k]
	if p == nil {
		p = &producer{key: k}
		t.producers[k] = p
	}
	if s.Epoch != p.epoch {
		p.epoch, p.entries, p.oldest = s.Epoch, p.entries[:0], 0
	}
	p.last = s.Sequence
	p.add(entry{sequence: s.Sequence, firstLSN: s.FirstLSN, records: s.Records})
	t.moveToEnd(p)
	if t.listed > t.maxProducers {
		t.forget(t.list.next)
	}
	t.appliedLSN = s.FirstLSN + uint64(s.Records) - 1
}

func (p *producer) add(e entry) {
	if len(p.entries) < WindowBatches {
		p.entries = append(p.entries, e)
		return
	}
	p.entries[p.oldest] = e
	p.oldest = (p.oldest + 1) % WindowBatches
}

func (t *Table) moveToEnd(p *producer) {
	if p.next != nil {
		p.previous.next, p.next.previous = p.next, p.previous
	} else {
		t.listed++
	}
	p.previous, p.next = t.list.previous, &t.list
	p.previous.next, p.next.previous = p, p
}

func (t *Table) forget(p *producer) {
	p.previous.next, p.next.previous = p.next, p.previous
	t.listed--
	t.forgotten++
	if p.staged > 0 { // it is back when that batch is committed
		*p = producer{key: p.key, staged: p.staged, stagedEpoch: p.stagedEpoch, stagedLast: p.stagedLast}
		return
	}
	delete(t.producers, p.key)
}
