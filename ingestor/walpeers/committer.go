package main

import (
	"errors"
	"sync"
)

// queueAppends bounds what waits for the committer; there are never more callers.
const queueAppends = 4096

// groupAppends is how many appends may share a sync, so that they fit a group of the ingestor's log.
func groupAppends(w workload) int { return maxGroupBytes / (w.payloadBytes() + blockBytes) }

// committer is group commit for what writes and syncs in one call: callers queue up their payloads, and one goroutine takes all
// that is queued, makes it durable at once and answers.
type committer struct {
	queue chan *submission
	done  chan struct{}
	// commit makes the payloads durable, in this order. It is called by one goroutine.
	commit func(payloads [][]byte) error
	// maxAppends bounds what commit is given at once.
	maxAppends int
}

// submission is a payload on its way into a log.
type submission struct {
	payload []byte
	result  chan error
}

var submissions = sync.Pool{New: func() any { return &submission{result: make(chan error, 1)} }}

// submit queues a payload and waits for the outcome.
func submit(queue chan<- *submission, payload []byte) error {
	s := submissions.Get().(*submission)
	s.payload = payload
	queue <- s
	err := <-s.result
	s.payload = nil
	submissions.Put(s)
	return err
}

func startCommitter(maxAppends int, commit func(payloads [][]byte) error) *committer {
	c := &committer{queue: make(chan *submission, queueAppends), done: make(chan struct{}), commit: commit, maxAppends: maxAppends}
	go c.run()
	return c
}

func (c *committer) append(payload []byte) error { return submit(c.queue, payload) }

// stop ends the goroutine. The callers must have ended.
func (c *committer) stop() {
	close(c.queue)
	<-c.done
}

func (c *committer) run() {
	defer close(c.done)
	var group []*submission
	var payloads [][]byte
	for first := range c.queue {
		group, payloads = group[:0], payloads[:0]
		for s := first; s != nil; {
			group, payloads = append(group, s), append(payloads, s.payload)
			s = nil
			if len(group) < c.maxAppends {
				select {
				case s = <-c.queue: // nil once closed and empty
				default:
				}
			}
		}
		err := c.commit(payloads)
		answer(group, err)
	}
}

// closeAll stops the committer, where there is one, and closes what it wrote to.
func (c *committer) closeAll(closers ...func() error) error {
	if c != nil {
		c.stop()
	}
	var errs []error
	for _, closer := range closers {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}
