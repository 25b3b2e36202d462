package crashtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
)

// A campaign goes by what was acked, so that a slow machine only makes it slower. progressTimeout is how long nothing may come of a wait;
// it is far more than any machine should need.
const (
	progressTimeout = 3 * time.Minute
	pollInterval    = 10 * time.Millisecond

	defaultAgainBound = 30 * time.Second
)

// book is a ledger that is still being written.
type book struct {
	path   string
	writer *ledger.Writer
	// durable: nothing that is acked may be lost.
	durable bool
	// committed: acks wait for the sinks.
	committed bool
	metrics   bool
}

// committedBook is the ledger of the load that waits for the sinks. REQUIRES: a load runs.
func (c *Campaign) committedBook() (*ledger.Writer, error) {
	for _, b := range c.load.books {
		if b.committed {
			return b.writer, nil
		}
	}
	return nil, errors.New("no load waits for the sinks")
}

// ackedSoFar counts the batches that were acked as durable.
func (l *load) ackedSoFar() (acked uint64) {
	for _, b := range l.books {
		if b.durable {
			acked += b.writer.AckedBatches()
		}
	}
	return acked
}

// AckedNow counts the batches that the present load has acked as durable. REQUIRES: a load runs.
func (c *Campaign) AckedNow() uint64 { return c.load.ackedSoFar() }

// awaitAgain returns when a server that was started after a crash has acked a batch, which must not take longer than AgainBound.
func (c *Campaign) awaitAgain() error {
	if err := c.AwaitAcks(1); err != nil {
		return err
	}
	took := time.Since(c.startedAt)
	c.SlowestAgain = max(c.SlowestAgain, took)
	bound := c.AgainBound
	if bound == 0 {
		bound = defaultAgainBound
	}
	if took > bound {
		return fmt.Errorf("the server acked its first batch %s after its start; the bound is %s\n%s", took, bound, c.server.LogTail())
	}
	return nil
}

// AwaitAcks returns when n more batches were acked as durable. REQUIRES: a load runs.
func (c *Campaign) AwaitAcks(n uint64) error {
	before := c.load.ackedSoFar()
	acked := before
	err := c.Await(func() (bool, error) {
		acked = c.load.ackedSoFar()
		return acked >= before+n, nil
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
