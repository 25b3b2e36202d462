package wal

import (
	"runtime"
	"sync/atomic"
)

// syncer is the goroutine that writes and syncs the groups handed to it by Begin, one at a time.
//
//	Begin ──> jobs ──> writeGroup ──> done ──> whoever called Begin
//
// Between begin and the outcome it has the group, the newest segment's end and the open file to itself. The first Begin starts it.
type syncer struct {
	jobs chan syncJob
	done chan error // with room for the one outcome, so that the goroutine can always end
	busy atomic.Bool
	// ended is closed when the goroutine has ended; nil before it was started.
	ended chan struct{}
}

type syncJob struct {
	group *group
	stats GroupStats
}

func newSyncer() syncer { return syncer{jobs: make(chan syncJob, 1), done: make(chan error, 1)} }

// begin hands a group of w over. REQUIRES: the outcome of the one before has been received.
func (s *syncer) begin(w *WAL, g *group, stats GroupStats) {
	if s.ended == nil {
		s.ended = make(chan struct{})
		go s.run(w)
	}
	s.busy.Store(true)
	s.jobs <- syncJob{g, stats}
}

// run is the goroutine. It keeps to one thread, so that who counts the system calls of a thread counts every group.
func (s *syncer) run(w *WAL) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.ended)
	for job := range s.jobs {
		err := w.writeGroup(job.group, job.stats)
		s.busy.Store(false)
		s.done <- err
	}
}

// stop ends the goroutine once it has nothing to do.
func (s *syncer) stop() {
	close(s.jobs)
	if s.ended != nil {
		<-s.ended
	}
}
