package crashtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingestor-project/ingestor/crashtest/acks"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
)

// A campaign goes by what was acked, so that a slow machine only makes it slower. progressTimeout is how long nothing may come of a wait;
// it is far more than any machine should need.
const (
	progressTimeout = 3 * time.Minute
	pollInterval    = 10 * time.Millisecond
)

// book is a ledger that is still being written.
type book struct {
	path   string
	writer *ledger.Writer
}

func (l *load) ackedSoFar() (acked uint64, err error) {
	for _, b := range l.books {
		n, err := acks.Count(b.path, b.writer)
		if err != nil {
			return 0, err
		}
		acked += n
	}
	return acked, nil
}

// AwaitAcks returns when n more batches were acked. REQUIRES: a load runs.
func (c *Campaign) AwaitAcks(n uint64) error {
	before, err := c.load.ackedSoFar()
	if err != nil {
		return err
	}
	acked := before
	err = c.Await(func() (bool, error) {
		var err error
		acked, err = c.load.ackedSoFar()
		return acked >= before+n, err
	})
	if err != nil {
		return fmt.Errorf("%d of %d batches acked: %w", acked-before, n, err)
	}
	return nil
}

// Await returns when reached says so, or with an error when the server has ended by itself before, or nothing comes of it.
func (c *Campaign) Await(reached func() (bool, error)) error {
	deadline := time.NewTimer(progressTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		if ok, err := reached(); ok || err != nil {
			return err
		}
		select {
		case <-poll.C:
		case <-c.server.Ended():
			return c.endedByItself()
		case <-deadline.C:
			return fmt.Errorf("nothing within %s\n%s", progressTimeout, c.server.LogTail())
		}
	}
}

// workFor returns when the time is over, or with an error when the server has ended by itself before.
func (c *Campaign) workFor(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.server.Ended():
		return c.endedByItself()
	}
}

func (c *Campaign) endedByItself() error {
	status, err := c.server.Wait(context.Background())
	return errors.Join(err, fmt.Errorf("the server ended by itself: %v\n%s", status, c.server.LogTail()))
}
