package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

// ticket is the right and duty to send one batch.
type ticket struct {
	phase    int
	due      time.Duration // since the start of the run
	tenant   int
	endpoint int
	records  int
	row      uint64 // scripts only
	closed   bool   // closed loop: due when there is room for it
}

// window is when a phase lasts, since the start of the run; unknown ends are negative.
type window struct{ start, end time.Duration }

const unknown = time.Duration(-1)

// schedule hands out tickets in the order in which they are due, one by one, to all workers.
type schedule struct {
	config *Config
	keys   *keys
	cutoff time.Duration // when no ticket is given out any more; 0: never

	windows atomic.Pointer[[]window] // replaced, never changed

	mu        sync.Mutex
	phase     int // current; len(config.Phases) when all is over
	pacer     Pacer
	hits      uint64 // in this phase
	records   uint64 // in this phase
	totalHits uint64
	due       []Counts      // by phase
	unsent    []Counts      // by phase
	end       time.Duration // when the last phase was over by the schedule; 0 until then, and where the run was stopped
	ended     chan struct{} // closed when the last ticket has been given out
}

func newSchedule(c *Config) *schedule {
	s := &schedule{
		config: c,
		keys:   newKeys(len(c.Tenants), len(c.Endpoints), c.Skew, c.Seed),
		due:    make([]Counts, len(c.Phases)),
		unsent: make([]Counts, len(c.Phases)),
		ended:  make(chan struct{}),
	}
	windows := make([]window, len(c.Phases))
	start := time.Duration(0)
	for i, p := range c.Phases {
		windows[i] = window{start, unknown}
		if start != unknown && p.Duration > 0 {
			windows[i].end = start + p.Duration
		}
		start = windows[i].end
	}
	if start != unknown {
		s.cutoff = start + c.Overrun
	}
	s.windows.Store(&windows)
	s.enter(0)
	return s
}

// enter makes phase i the current one.
func (s *schedule) enter(i int) {
	s.phase, s.hits, s.records = i, 0, 0
	if i == len(s.config.Phases) {
		close(s.ended)
		return
	}
	p := s.config.Phases[i]
	s.pacer = Pacer{
		HitsPerSecond: p.RecordsPerSecond / float64(s.config.BatchRecords),
		Arrivals:      p.Arrivals,
		Seed:          s.config.Seed + uint64(i),
	}
}

// leave ends the current phase at the given time and enters the next. A last phase without a planned end lasts until its last
// answer, and until then at least.
func (s *schedule) leave(at time.Duration) {
	if s.phase == len(s.config.Phases)-1 {
		s.end = at
		if s.config.Phases[s.phase].Duration == 0 {
			s.enter(s.phase + 1)
			return
		}
	}
	windows := append([]window(nil), *s.windows.Load()...)
	for i := s.phase; i < len(windows); i++ {
		if i > s.phase {
			windows[i].start = at
			if d := s.config.Phases[i].Duration; d > 0 {
				windows[i].end = at + d
			} else {
				windows[i].end = unknown
			}
		} else {
			windows[i].end = at
		}
		if at = windows[i].end; at == unknown {
			break
		}
	}
	s.windows.Store(&windows)
	s.enter(s.phase + 1)
}

// next returns the next ticket, or false when there are no more. now is the time since the start of the run.
func (s *schedule) next(now time.Duration) (ticket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		t, ok := s.take(now)
		if !ok {
			return ticket{}, false
		}
		s.due[t.phase].add(uint64(t.records))
		if s.cutoff > 0 && now > s.cutoff {
			s.unsent[t.phase].add(uint64(t.records))
			continue
		}
		return t, true
	}
}

func (s *schedule) take(now time.Duration) (ticket, bool) {
	for s.phase < len(s.config.Phases) {
		p := &s.config.Phases[s.phase]
		w := (*s.windows.Load())[s.phase]
		t := ticket{phase: s.phase, due: now, records: s.config.BatchRecords}
		switch {
		case s.config.Script != nil:
			if int(s.hits) == s.config.Script.Len() {
				s.leave(now)
				continue
			}
			b, due := s.config.Script.Batch(int(s.hits))
			t.due, t.records, t.row, t.endpoint = w.start+due, int(b.Records), b.Row, int(b.Endpoint)
			t.tenant = t.endpoint % s.keys.tenants
		case p.RecordsPerSecond > 0:
			t.due = w.start + s.pacer.Due(s.hits)
		default:
			t.closed = true
		}
		if w.end != unknown && t.due >= w.end {
			s.leave(w.end)
			continue
		}
		if p.Records > 0 {
			left := p.Records - s.records
			if left == 0 {
				s.leave(t.due)
				continue
			}
			t.records = int(min(uint64(t.records), left))
		}
		if s.config.Script == nil {
			t.tenant, t.endpoint = s.keys.at(s.totalHits)
		}
		s.hits++
		s.totalHits++
		s.records += uint64(t.records)
		return t, true
	}
	return ticket{}, false
}

// stop makes the schedule hand out nothing more.
func (s *schedule) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase < len(s.config.Phases) {
		s.enter(len(s.config.Phases))
	}
}

// phaseAt returns which phase lasts at a time since the start of the run, or -1.
func (s *schedule) phaseAt(now time.Duration) int {
	for i, w := range *s.windows.Load() {
		if w.start != unknown && now >= w.start && (w.end == unknown || now < w.end) {
			return i
		}
	}
	return -1
}

// batch returns what the ticket asks for, before it has a producer and a sequence.
func (t *ticket) batch(now time.Time) record.Batch {
	return record.Batch{
		UnixMilli: now.UnixMilli(), Records: uint32(t.records), Endpoint: uint32(t.endpoint), Row: t.row,
	}
}
