package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Bounds of the histograms: 100 ns to 20 minutes, three significant digits.
const (
	lowestLatency  = int64(100)
	highestLatency = int64(20 * time.Minute)
	latencyDigits  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(lowestLatency, highestLatency, latencyDigits)
}

// recordLatency records d, cut to the histogram's bounds.
func recordLatency(h *hdrhistogram.Histogram, d time.Duration) {
	// The value is in range by construction.
	_ = h.RecordValue(min(max(int64(d), 0), highestLatency))
}

// maxShards bounds the memory of the histograms.
const maxShards = 8

// recorder counts what happens to batches. Workers are spread over shards so that they seldom meet.
type recorder struct {
	phases    int
	schedule  *schedule
	shards    []*shard
	inFlight  atomic.Int64
	lastError atomic.Pointer[string] // since the last sample
}

type shard struct {
	mu       sync.Mutex
	cells    []*cell                 // by phase; nil until needed
	interval *hdrhistogram.Histogram // response times since the last sample
	sent     uint64                  // records, since the start
	acked    uint64                  // records, since the start
	refused  uint64                  // batches, since the start
}

// cell holds one shard's figures of one phase.
type cell struct {
	sent, acked, duplicates, resent, unknown, unsent, within Counts

	ackedAt                AckLevels
	refused                map[string]Counts
	wireBytes              uint64
	response, service, lag *hdrhistogram.Histogram
}

func newCell() *cell {
	return &cell{
		ackedAt: make(AckLevels), refused: make(map[string]Counts),
		response: newHistogram(), service: newHistogram(), lag: newHistogram(),
	}
}

func newRecorder(phases, workers int, s *schedule) *recorder {
	r := &recorder{phases: phases, schedule: s}
	for range min(workers, maxShards) {
		r.shards = append(r.shards, &shard{cells: make([]*cell, phases), interval: newHistogram()})
	}
	return r
}

// shard returns the shard of a worker.
func (r *recorder) shard(worker int) *shard { return r.shards[worker%len(r.shards)] }

// cell returns the figures of a phase. The shard's lock must be held.
func (s *shard) cell(phase int) *cell {
	if s.cells[phase] == nil {
		s.cells[phase] = newCell()
	}
	return s.cells[phase]
}

// flight is one batch that was sent and is not yet settled. Times count from the start of the run.
type flight struct {
	phase     int
	records   uint64
	due       time.Duration
	firstSent time.Duration
	lastSent  time.Duration
	attempts  int
	unsure    bool // an attempt's outcome is unknown: the batch may be stored
}

// sent records an attempt to send, just before it is made.
func (r *recorder) sent(s *shard, f *flight, now time.Duration, wireBytes int) {
	f.attempts++
	f.lastSent = now
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cell(f.phase)
	if f.attempts > 1 {
		c.resent.add(f.records)
		return
	}
	f.firstSent = now
	c.sent.add(f.records)
	c.wireBytes += uint64(wireBytes)
	s.sent += f.records
	recordLatency(c.lag, now-f.due)
	r.inFlight.Add(1)
}

func (r *recorder) acked(s *shard, f *flight, now time.Duration, level storagepb.AckLevel, duplicate bool) {
	r.inFlight.Add(-1)
	at := r.schedule.phaseAt(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cell(f.phase)
	c.acked.add(f.records)
	c.ackedAt.add(level, f.records)
	if duplicate {
		c.duplicates.add(f.records)
	}
	s.acked += f.records
	recordLatency(c.response, now-f.due)
	recordLatency(c.service, now-f.lastSent)
	recordLatency(s.interval, now-f.due)
	if at >= 0 {
		s.cell(at).within.add(f.records)
	}
}

func (r *recorder) refused(s *shard, f *flight, code string) {
	r.inFlight.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cell(f.phase)
	counts := c.refused[code]
	counts.add(f.records)
	c.refused[code] = counts
	s.refused++
}

func (r *recorder) unknown(s *shard, f *flight) {
	r.inFlight.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cell(f.phase).unknown.add(f.records)
}

// unsent counts a batch for which there never was a stream.
func (r *recorder) unsent(s *shard, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cell(f.phase).unsent.add(f.records)
}

// broken notes why a stream or call broke, for the next sample.
func (r *recorder) broken(err error) {
	text := err.Error()
	r.lastError.Store(&text)
}

// sampler turns the recorder's totals into samples of intervals.
type sampler struct {
	recorder    *recorder
	names       []string // of the phases
	sent, acked uint64   // at the last sample
}

func (s *sampler) sample(now time.Duration) Sample {
	sample := Sample{Elapsed: now, Phase: s.names[len(s.names)-1], InFlight: s.recorder.inFlight.Load()}
	if phase := s.recorder.schedule.phaseAt(now); phase >= 0 {
		sample.Phase = s.names[phase]
	}
	merged := newHistogram()
	var sent, acked uint64
	for _, shard := range s.recorder.shards {
		shard.mu.Lock()
		merged.Merge(shard.interval)
		shard.interval.Reset()
		sent += shard.sent
		acked += shard.acked
		sample.RefusedTotal += shard.refused
		shard.mu.Unlock()
	}
	sample.SentRecords, sample.AckedRecords, sample.AckedTotal = sent-s.sent, acked-s.acked, acked
	s.sent, s.acked = sent, acked
	sample.ResponseP50 = time.Duration(merged.ValueAtPercentile(50))
	sample.ResponseP99 = time.Duration(merged.ValueAtPercentile(99))
	sample.ResponseMax = time.Duration(merged.Max())
	if text := s.recorder.lastError.Swap(nil); text != nil {
		sample.LastErrorText = *text
	}
	return sample
}

// results merges the shards. runEnd ends phases that had no planned end, or that did not reach it.
func (r *recorder) results(c *Config, runEnd time.Duration) []PhaseResult {
	windows := *r.schedule.windows.Load()
	results := make([]PhaseResult, r.phases)
	for i := range results {
		p := &results[i]
		*p = newPhaseResult(c.Phases[i].Name, c.Phases[i].Warmup)
		if w := windows[i]; w.start != unknown {
			end := w.end
			if end == unknown || c.Phases[i].Duration == 0 && i == len(results)-1 {
				end = runEnd
			}
			p.Duration = max(0, min(end, runEnd)-w.start)
		}
		p.Due, p.Unsent = r.schedule.due[i], r.schedule.unsent[i]
		for _, s := range r.shards {
			s.mu.Lock()
			if s.cells[i] != nil {
				p.add(s.cells[i])
			}
			s.mu.Unlock()
		}
		p.rate()
	}
	return results
}

func newPhaseResult(name string, warmup bool) PhaseResult {
	return PhaseResult{
		Name: name, Warmup: warmup, AckedAt: make(AckLevels), Refused: make(map[string]Counts),
		Response: newHistogram(), Service: newHistogram(), Lag: newHistogram(),
	}
}

func (p *PhaseResult) add(c *cell) {
	p.Sent.merge(c.sent)
	p.Acked.merge(c.acked)
	p.AckedAt.merge(c.ackedAt)
	p.Duplicates.merge(c.duplicates)
	p.Resent.merge(c.resent)
	p.Unknown.merge(c.unknown)
	p.Unsent.merge(c.unsent)
	p.AckedWithin.merge(c.within)
	p.WireBytes += c.wireBytes
	p.addRefused(c.refused)
	p.Response.Merge(c.response)
	p.Service.Merge(c.service)
	p.Lag.Merge(c.lag)
}

func (p *PhaseResult) addRefused(refused map[string]Counts) {
	for code, counts := range refused {
		total := p.Refused[code]
		total.merge(counts)
		p.Refused[code] = total
	}
}

func (p *PhaseResult) rate() {
	if p.Duration > 0 {
		p.AckedRecordsPerSecond = float64(p.AckedWithin.Records) / p.Duration.Seconds()
	}
}

// measured merges all phases that are not warm-up.
func measured(phases []PhaseResult) PhaseResult {
	total := newPhaseResult("measured", false)
	for i := range phases {
		p := &phases[i]
		if p.Warmup {
			continue
		}
		total.Duration += p.Duration
		total.Due.merge(p.Due)
		total.Unsent.merge(p.Unsent)
		total.Sent.merge(p.Sent)
		total.Acked.merge(p.Acked)
		total.AckedAt.merge(p.AckedAt)
		total.Duplicates.merge(p.Duplicates)
		total.Resent.merge(p.Resent)
		total.Unknown.merge(p.Unknown)
		total.AckedWithin.merge(p.AckedWithin)
		total.WireBytes += p.WireBytes
		total.addRefused(p.Refused)
		total.Response.Merge(p.Response)
		total.Service.Merge(p.Service)
		total.Lag.Merge(p.Lag)
	}
	total.rate()
	return total
}
