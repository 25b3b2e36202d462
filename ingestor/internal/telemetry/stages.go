package telemetry

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Stage names one part of a batch's path through the server.
type Stage int

// The stages. Commit spans WALWrite, Fdatasync and Memtable of one group: it is the figure behind the promise
// "WAL write + memtable insert below 1 ms".
const (
	Decode    Stage = iota // copy into a slab buffer and validation, per batch
	Queue                  // from the queue until its group begins, per batch; the copying into the group is part of it
	WALWrite               // write of a group to the log
	Fdatasync              // fdatasync of a group
	Memtable               // insertion of a group into the memtables
	Commit                 // WALWrite + Fdatasync + Memtable as one span, per group: from the group's begin until it is visible
	Ack                    // from the receipt of a batch to its completion
	stageCount
)

var stageNames = [stageCount]string{"decode", "queue", "wal_write", "fdatasync", "memtable", "commit", "ack"}

func (s Stage) String() string { return stageNames[s] }

const (
	lowestNanos       = 1
	highestNanos      = int64(100 * time.Second)
	significantDigits = 3
)

// Stages holds one histogram a stage. Safe for concurrent use; each stage has a lock of its own.
type Stages struct {
	recorders [stageCount]recorder
}

type recorder struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram
	sumNanos  int64
}

// NewStages returns empty histograms.
func NewStages() *Stages {
	s := &Stages{}
	for i := range s.recorders {
		s.recorders[i].histogram = hdrhistogram.New(lowestNanos, highestNanos, significantDigits)
	}
	return s
}

// Observe records one duration. Values outside the histogram's range are recorded as its nearest bound.
func (s *Stages) Observe(stage Stage, d time.Duration) {
	nanos := min(max(int64(d), lowestNanos), highestNanos)
	r := &s.recorders[stage]
	r.mu.Lock()
	// The value was clamped to the range, so recording cannot fail.
	_ = r.histogram.RecordValue(nanos)
	r.sumNanos += nanos
	r.mu.Unlock()
}

// Reset empties all histograms.
func (s *Stages) Reset() {
	for i := range s.recorders {
		r := &s.recorders[i]
		r.mu.Lock()
		r.histogram.Reset()
		r.sumNanos = 0
		r.mu.Unlock()
	}
}

// StageReport is what the admin port says of one stage.
type StageReport struct {
	Unit     string `json:"unit"`
	Count    int64  `json:"count"`
	SumNanos int64  `json:"sum_ns"`
	P50Nanos int64  `json:"p50_ns"`
	P99Nanos int64  `json:"p99_ns"`
	MaxNanos int64  `json:"max_ns"`
	// HDRV2 is the whole histogram in HdrHistogram's V2 compressed encoding, base64; histograms can be merged from it.
	HDRV2 string `json:"hdr_v2"`
}

// Report returns all stages by name.
func (s *Stages) Report() (map[string]StageReport, error) {
	report := make(map[string]StageReport, stageCount)
	for i := range s.recorders {
		r := &s.recorders[i]
		r.mu.Lock()
		h := hdrhistogram.Import(r.histogram.Export())
		sum := r.sumNanos
		r.mu.Unlock()
		encoded, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err != nil {
			return nil, fmt.Errorf("encode histogram of stage %s: %w", Stage(i), err)
		}
		report[Stage(i).String()] = StageReport{
			Unit: "ns", Count: h.TotalCount(), SumNanos: sum,
			P50Nanos: h.ValueAtQuantile(50), P99Nanos: h.ValueAtQuantile(99), MaxNanos: h.Max(),
			HDRV2: string(encoded),
		}
	}
	return report, nil
}
