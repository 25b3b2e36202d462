package replay

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

// Pace says how fast a recording is played. Exactly one field must be set.
type Pace struct {
	// TimeScale multiplies the recorded pace: 2 plays twice as fast.
	TimeScale float64
	// RecordsPerSecond plays at an even rate instead.
	RecordsPerSecond float64
}

// Script is a recording cut into batches, each with its due time. It implements engine.Script.
type Script struct {
	*Recording
	batches []scripted
}

type scripted struct {
	endpoint, row, records int
	due                    time.Duration
}

// Script cuts the recording into batches of at most batchRecords rows. With a time scale, a batch also ends before a row that comes
// more than a second of played time after its first row, so that slow endpoints are not held back.
func (r *Recording) Script(batchRecords int, pace Pace) (*Script, error) {
	if batchRecords < 1 || batchRecords > record.MaxRecords {
		return nil, fmt.Errorf("replay: batch size must be between 1 and %d", record.MaxRecords)
	}
	if !(pace.TimeScale > 0) == !(pace.RecordsPerSecond > 0) {
		return nil, errors.New("replay: either a time scale or a rate must be given")
	}
	const longest = time.Second
	s := &Script{Recording: r}
	open := make([]scripted, len(r.endpoints))        // the batch that is being filled, by endpoint
	opened := make([]time.Duration, len(r.endpoints)) // when its first row is played
	start, now := r.rows[r.order[0].endpoint][r.order[0].row].unixNano, time.Duration(0)
	cut := func(endpoint int) {
		if b := &open[endpoint]; b.records > 0 {
			s.batches = append(s.batches, *b)
			*b = scripted{endpoint: endpoint, row: b.row + b.records}
		}
	}
	for endpoint := range open {
		open[endpoint].endpoint = endpoint
	}
	for played, at := range r.order {
		if pace.RecordsPerSecond > 0 {
			now = time.Duration(float64(played) / pace.RecordsPerSecond * 1e9)
		} else {
			elapsed := float64(r.rows[at.endpoint][at.row].unixNano - start)
			now = max(now, time.Duration(elapsed/pace.TimeScale))
			if open[at.endpoint].records > 0 && now-opened[at.endpoint] > longest {
				cut(at.endpoint)
			}
		}
		b := &open[at.endpoint]
		if b.records == 0 {
			opened[at.endpoint] = now
		}
		b.due = now
		if b.records++; b.records == batchRecords {
			cut(at.endpoint)
		}
	}
	for endpoint := range open {
		cut(endpoint)
	}
	slices.SortStableFunc(s.batches, func(a, b scripted) int { return cmp.Compare(a.due, b.due) })
	return s, nil
}

// Len implements engine.Script.
func (s *Script) Len() int { return len(s.batches) }

// Batch implements engine.Script.
func (s *Script) Batch(i int) (record.Batch, time.Duration) {
	b := &s.batches[i]
	return record.Batch{Records: uint32(b.records), Endpoint: uint32(b.endpoint), Row: uint64(b.row)}, b.due
}

// Duration is when the last batch is due.
func (s *Script) Duration() time.Duration { return s.batches[len(s.batches)-1].due }
