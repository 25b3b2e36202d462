package ingestion

import (
	"slices"
	"sort"
	"sync"
)

// waiters holds the submissions that are durable and wait for all sinks. Safe for concurrent use.
type waiters struct {
	mu sync.Mutex
	// list is ordered by LastLSN. Only duplicates ever come out of order.
	list         []*Submission
	committedLSN uint64
}

func (w *waiters) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.list)
}

// add queues s; false where the sinks have committed it already.
func (w *waiters) add(s *Submission) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.LastLSN <= w.committedLSN {
		return false
	}
	w.list = slices.Insert(w.list, w.firstAbove(s.LastLSN), s)
	return true
}

// takeUpTo removes and returns those whose records are all at or below lsn.
func (w *waiters) takeUpTo(lsn uint64) []*Submission {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.committedLSN = max(w.committedLSN, lsn)
	n := w.firstAbove(w.committedLSN)
	taken := slices.Clone(w.list[:n])
	w.list = slices.Delete(w.list, 0, n)
	return taken
}

func (w *waiters) takeAll() []*Submission {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.list
	w.list = nil
	return taken
}

// firstAbove returns the index of the first element with a LastLSN above lsn.
func (w *waiters) firstAbove(lsn uint64) int {
	return sort.Search(len(w.list), func(i int) bool { return w.list[i].LastLSN > lsn })
}
