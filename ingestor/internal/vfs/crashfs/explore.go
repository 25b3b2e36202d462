package crashfs

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"sync"
)

// Sector sizes at which writes are torn.
const (
	fineSectorBytes   = 512
	coarseSectorBytes = 4096
)

// Visit calls visit for states of m: for all of them where there are at most bound, otherwise for bound that are drawn, and complete says
// which. No state comes twice. It ends at the first error, to which it adds how the state can be made again. Which states come depends
// on m, bound and seed alone; so does the seed that visit gets, which is another one for each.
func (m *Moment) Visit(bound int, seed uint64, visit func(f *FS, seed uint64) error) (visited int64, complete bool, err error) {
	v := &visits{bound: bound, seed: seed, visit: visit, seen: map[uint64]struct{}{}, hash: maphash.MakeSeed()}
	fine := m.States(fineSectorBytes)
	if complete, err = v.all(fine, "sectors of 512 bytes", bound); complete || err != nil {
		return v.count, complete, err
	}
	coarse := m.States(coarseSectorBytes)
	if _, err = v.all(coarse, "sectors of 4 KiB", bound/2); err == nil {
		err = v.drawn(fine, coarse)
	}
	return v.count, false, err
}

// visits are those of one moment.
type visits struct {
	bound int
	seed  uint64
	visit func(*FS, uint64) error
	seen  map[uint64]struct{}
	hash  maphash.Seed
	count int64
}

// all visits every state, unless there are more than bound.
func (v *visits) all(s *States, model string, bound int) (complete bool, err error) {
	if !s.Enumerable() || s.Count() > uint64(bound) {
		return false, nil
	}
	for i := range s.Count() {
		if err := v.state(s.State(i)); err != nil {
			return false, fmt.Errorf("%s, state %d of %d: %w", model, i, s.Count(), err)
		}
	}
	return true, nil
}

// drawn visits states that are drawn. It gives up where nearly all that is drawn was there before.
func (v *visits) drawn(fine, coarse *States) error {
	for n, tries := uint64(0), 8*v.bound; int(v.count) < v.bound && tries > 0; n, tries = n+1, tries-1 {
		s, model := fine, "sectors of 512 bytes"
		if n%4 == 3 {
			s, model = coarse, "sectors of 4 KiB"
		}
		if err := v.state(s.Sample(rand.New(rand.NewPCG(v.seed, n)))); err != nil {
			return fmt.Errorf("%s, drawn with PCG(%d, %d): %w", model, v.seed, n, err)
		}
	}
	return nil
}

// state visits a state unless it was visited before.
func (v *visits) state(f *FS) error {
	hash := f.Fingerprint(v.hash)
	if _, twice := v.seen[hash]; twice {
		return nil
	}
	v.seen[hash] = struct{}{}
	v.count++
	return v.visit(f, v.seed+uint64(v.count))
}

// Explorer visits the states of many moments on as many goroutines as there are processors. What it visits depends on Seed and the
// moments, in their order, alone, so that a run can be repeated.
type Explorer struct {
	Seed uint64

	slots    chan struct{}
	running  sync.WaitGroup
	moments  uint64
	mu       sync.Mutex
	explored int64
	complete int
	failures []error
}

// maxFailures is how many violations are reported.
const maxFailures = 8

// Moment has the states of m visited, up to a bound as Visit does; it waits only while all processors are busy. what says where the moment
// was and becomes part of every error. visit may be called by several goroutines at a time.
func (e *Explorer) Moment(m *Moment, bound int, what string, visit func(f *FS, seed uint64) error) {
	if e.slots == nil {
		e.slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	e.moments++
	seed := rand.NewPCG(e.Seed, e.moments).Uint64()
	e.slots <- struct{}{}
	e.running.Go(func() {
		defer func() { <-e.slots }()
		visited, complete, err := m.Visit(bound, seed, visit)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.explored += visited
		if complete {
			e.complete++
		}
		if err != nil && len(e.failures) < maxFailures {
			e.failures = append(e.failures, fmt.Errorf("%s: %w", what, err))
		}
	})
}

// Explored is how many states have been visited so far.
func (e *Explorer) Explored() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.explored
}

// Failed says whether a violation was found, so that the caller may stop.
func (e *Explorer) Failed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.failures) > 0
}

// Wait waits for all that is under way and returns how many states were visited, of how many moments all of them, and what was wrong.
func (e *Explorer) Wait() (explored int64, complete int, err error) {
	e.running.Wait()
	return e.explored, e.complete, errors.Join(e.failures...)
}
