package parquetfile

import (
	"errors"
	"sync"
	"sync/atomic"
)

// lane is what one thread needs to encode and to read back.
type lane struct {
	encoder  *encoder
	verifier *verifier
	worker   *worker // nil for the lane of the goroutine that calls flush
}

// lanes share the work on one file. The first one runs on the caller's goroutine.
type lanes []*lane

// each calls work once for every number below n, the numbers in ascending order, each on the next lane that is free. It
// returns when all calls have returned. After an error no more calls begin.
func (l lanes) each(n int, work func(lane *lane, i int) error) error {
	var next atomic.Int64
	var failed atomic.Bool
	run := func(lane *lane) error {
		for !failed.Load() {
			i := int(next.Add(1)) - 1
			if i >= n {
				return nil
			}
			if err := work(lane, i); err != nil {
				failed.Store(true)
				return err
			}
		}
		return nil
	}
	helpers := l[1:max(1, min(len(l), n))]
	for _, helper := range helpers {
		helper.worker.start(func() error { return run(helper) })
	}
	errs := []error{run(l[0])}
	for _, helper := range helpers {
		errs = append(errs, helper.worker.wait())
	}
	return errors.Join(errs...)
}

// letGo drops what the lanes still hold of a flush.
func (l lanes) letGo() {
	for _, lane := range l {
		lane.encoder.letGo()
		lane.verifier.letGo()
	}
}

// turns lets the calls of one lanes.each go through a part of their work one after the other, in the order of their numbers.
type turns struct {
	mu      sync.Mutex
	changed sync.Cond
	next    int
	failed  bool
}

// errTurnLost says that a call whose turn came before has failed; its own error says why.
var errTurnLost = errors.New("a row group before this one could not be written")

func newTurns() *turns {
	t := &turns{}
	t.changed.L = &t.mu
	return t
}

// take calls work when it is i's turn, and then gives the turn to i+1.
func (t *turns) take(i int, work func() error) error {
	t.mu.Lock()
	for t.next != i && !t.failed {
		t.changed.Wait()
	}
	failed := t.failed
	t.mu.Unlock()
	if failed {
		return errTurnLost
	}
	err := work()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	t.failed = t.failed || err != nil
	t.changed.Broadcast()
	return err
}

// abandon is for a call that fails before its turn: the others must not wait for it.
func (t *turns) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = true
	t.changed.Broadcast()
}
