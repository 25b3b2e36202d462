package verify

import (
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	"github.com/ingestor-project/ingestor/loadgen/replay"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// expectation is what the ledgers say must, may and must not be stored, and what has been seen of it. Rows may be looked up and
// marked concurrently.
type expectation struct {
	runs      []*run
	producers [record.MaxProducers][]*producer // those with this number, one for each ledger that has it
	seen      []atomic.Uint64                  // one bit for each record sent
}

// run is one ledger.
type run struct {
	header  ledger.Header
	source  record.Source
	crashed bool
}

const buffered = byte(storagepb.AckLevel_ACK_LEVEL_BUFFERED)

// mayLose tells whether a crash was free to lose a batch that was acked at this level.
func (r *run) mayLose(level byte) bool { return r.crashed && level == buffered }

// mayHaveHoles tells whether a batch may be gone although a later one of its producer is stored: a crash may lose what is only
// buffered, and a request of metrics that is not answered is not sent again, at any level.
func (r *run) mayHaveHoles() bool {
	return r.header.Kind == ledger.Metrics || r.mayLose(r.header.AckLevel)
}

// producer is one producer of one run.
type producer struct {
	*ledger.Producer
	run     *run
	number  uint16
	bits    []uint64        // of each batch, the place of its first record in seen
	firstAt []atomic.Uint64 // of each batch, the LSN of its first record as the stored rows tell; 0: none seen
}

// expect reads ledgers of one kind.
func expect(kind string, paths []string) (*expectation, error) {
	e := &expectation{}
	records := uint64(0)
	for _, path := range paths {
		l, err := ledger.Open(path)
		if err != nil {
			return nil, err
		}
		if l.Header.Kind != kind {
			return nil, fmt.Errorf("verify: %s is a ledger of %s, not of %s", path, l.Header.Kind, kind)
		}
		r := &run{header: l.Header, source: l.Header.Spec, crashed: l.Crashed}
		if reference := l.Header.Replay; reference != nil {
			if r.source, err = replay.Reopen(*reference); err != nil {
				return nil, err
			}
		}
		e.runs = append(e.runs, r)
		for number, p := range l.Producers {
			q := &producer{Producer: p, run: r, number: number, firstAt: make([]atomic.Uint64, len(p.Batches))}
			for i := range p.Batches {
				q.bits = append(q.bits, records)
				records += uint64(p.Batches[i].Records)
			}
			e.producers[number%record.MaxProducers] = append(e.producers[number%record.MaxProducers], q)
		}
	}
	e.seen = make([]atomic.Uint64, (records+63)/64)
	return e, nil
}

// sent is one batch of one producer.
type sent struct {
	*producer
	*ledger.Batch
	sequence uint64
}

func (s *sent) index() uint64 { return s.sequence - s.First }

func (s *sent) record() record.Batch {
	return record.Batch{
		Producer: s.number, Sequence: s.sequence, UnixMilli: s.UnixMilli, Records: s.Records,
		Endpoint: s.Endpoint, Row: s.Row,
	}
}

// find returns the batch that an identity belongs to; false where no ledger has it.
func (e *expectation) find(id record.Identity, match func(*producer, *ledger.Batch) bool) (sent, bool) {
	for _, p := range e.producers[id.Producer] {
		if b := p.Batch(id.Sequence); b != nil && id.Index < b.Records && match(p, b) {
			return sent{p, b, id.Sequence}, true
		}
	}
	return sent{}, false
}

// mark notes that a record has been seen, and reports whether it had been seen before.
func (e *expectation) mark(s *sent, index uint32) (again bool) {
	place := s.bits[s.index()] + uint64(index)
	bit := uint64(1) << (place % 64)
	return e.seen[place/64].Or(bit)&bit != 0
}

// stored counts the records of a batch that have been seen.
func (e *expectation) stored(s *sent) uint32 {
	first := s.bits[s.index()]
	end := first + uint64(s.Records)
	count := 0
	for word := first / 64; word*64 < end; word++ {
		w := e.seen[word].Load()
		if low := word * 64; low < first {
			w &^= 1<<(first-low) - 1
		}
		if high := (word + 1) * 64; high > end {
			w &= 1<<(end-word*64) - 1
		}
		count += bits.OnesCount64(w)
	}
	return uint32(count)
}

// firstMissing returns the index of the lowest record of a batch that has not been seen.
func (e *expectation) firstMissing(s *sent) uint32 {
	for i := range s.Records {
		place := s.bits[s.index()] + uint64(i)
		if e.seen[place/64].Load()>>(place%64)&1 == 0 {
			return i
		}
	}
	return s.Records
}

// extent is the part of the log that a stored batch takes.
type extent struct {
	first, records uint64
	of             sent
}

// conclude compares what has been seen with what must be, and completes the report.
func (e *expectation) conclude(r *Report, examples *examples) {
	var extents []extent
	for _, list := range e.producers {
		for _, p := range list {
			end := uint64(0) // of the last stored batch, as an LSN
			var absent []sent
			for i := range p.Batches {
				s := sent{p, &p.Batches[i], p.First + uint64(i)}
				stored := e.concludeBatch(r, examples, &s)
				if stored == 0 && s.State == ledger.Unknown && !s.TurnedDown && !p.run.mayHaveHoles() {
					absent = append(absent, s)
				}
				if stored > 0 {
					r.addHoles(examples, absent, s.sequence)
					absent = nil
				}
				first := p.firstAt[i].Load()
				if stored == 0 || first == 0 {
					continue
				}
				if first < end {
					r.OutOfOrder++
					examples.add(s.example("out_of_order", 0, fmt.Sprintf("LSN %d lies below that of an earlier batch", first)))
				}
				end = first + uint64(s.Records)
				extents = append(extents, extent{first, uint64(s.Records), s})
			}
		}
	}
	slices.SortFunc(extents, func(a, b extent) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	for i := 1; i < len(extents); i++ {
		previous := &extents[i-1]
		if same := previous.of.producer == extents[i].of.producer; !same && extents[i].first < previous.first+previous.records {
			r.OutOfOrder++
			examples.add(extents[i].of.example("out_of_order", 0, "LSNs overlap those of another batch"))
		}
	}
}

// addHoles counts batches that are gone although the later batch with this sequence is stored. They may be gone, having had no answer, but
// then everything after them must be: a client sends them again under the same sequence before it goes on. Where an attempt was
// turned down, a later batch that was under way already may have been taken.
func (r *Report) addHoles(examples *examples, absent []sent, later uint64) {
	for i := range absent {
		r.Holes++
		examples.add(absent[i].example("holes", 0, fmt.Sprintf("batch %d of the same producer is stored", later)))
	}
}

// concludeBatch judges one batch and returns how many of its records are stored.
func (e *expectation) concludeBatch(r *Report, examples *examples, s *sent) uint32 {
	if s.State == ledger.Unsent {
		return 0
	}
	n, stored := uint64(s.Records), e.stored(s)
	r.Sent += n
	partial := stored > 0 && stored < s.Records
	switch s.State {
	case ledger.Stored:
		r.Acked += n
		if stored == 0 && s.run.mayLose(s.Level) {
			r.BufferedLost += n
			break
		}
		if missing := n - uint64(stored); missing > 0 {
			r.Missing += missing
			examples.add(s.example("missing", e.firstMissing(s), fmt.Sprintf("%d of %d records are missing", missing, n)))
		}
	case ledger.Unknown:
		r.Unknown += n
		r.UnknownStored += uint64(stored)
	case ledger.Absent:
		r.Refused += n // stored rows of it have been counted as unexpected
	}
	if partial {
		r.PartialBatches++
		examples.add(s.example("partial_batches", e.firstMissing(s), fmt.Sprintf("%d of %d records are stored", stored, n)))
	}
	return stored
}

func (s *sent) example(fault string, index uint32, detail string) Example {
	return Example{
		Fault:    fault,
		EventID:  s.record().Identity(index).ID().String(),
		Tenant:   s.run.header.Tenants[s.Tenant],
		Endpoint: s.run.header.Endpoints[s.Endpoint],
		Producer: s.number, Sequence: s.sequence, Index: index,
		LSN: s.firstAt[s.index()].Load(), Detail: detail,
	}
}
