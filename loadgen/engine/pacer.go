package engine

import (
	"math"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

// Pacer says when each hit of an open-loop phase is due. It is a pure function of its three fields: the same pacer gives
// the same times however often and whenever it is asked. (It remembers the last sum of Poisson gaps, so asking in
// rising order is cheap; hence it must not be shared between goroutines without a lock.)
type Pacer struct {
	HitsPerSecond float64 // above 0
	Arrivals      Arrivals
	Seed          uint64 // of Poisson gaps

	summed uint64  // number of gaps in sum
	sum    float64 // in units of the mean gap
}

// Due returns when the hit with this number, from 0, is due after the start of the phase. It never falls as hit rises.
func (p *Pacer) Due(hit uint64) time.Duration {
	gaps := float64(hit)
	if p.Arrivals == Poisson {
		if hit+1 < p.summed {
			p.summed, p.sum = 0, 0
		}
		for ; p.summed <= hit; p.summed++ {
			p.sum -= math.Log1p(-record.Uniform(p.Seed, p.summed))
		}
		gaps = p.sum
	}
	seconds := gaps / p.HitsPerSecond
	if seconds > math.MaxInt64/1e9/2 {
		return math.MaxInt64 / 2
	}
	return time.Duration(math.Round(seconds * 1e9))
}

// Pace returns how long to wait before the next hit, when elapsed has passed since the start of the phase and hits have been
// made. Negative means that the hit is late by that much.
func (p *Pacer) Pace(elapsed time.Duration, hits uint64) time.Duration {
	return p.Due(hits) - elapsed
}
