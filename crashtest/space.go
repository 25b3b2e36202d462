package crashtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// fullPatience bounds the wait for a full disk to be felt by the log: one that is flushed all the time needs no new space.
const fullPatience = 20 * time.Second

// Fill makes the disk full at any byte, under load, until batches have been refused or nothing comes of it. Then either there is space again and
// writes must be taken again, or the power goes while the disk is full, and the server must start once there is space, if not before. It
// ends with a power cut, and tells whether batches were refused.
func (p *Power) Fill(c *Campaign) (refused bool, err error) {
	if err := c.awaitAgain(); err != nil {
		return false, err
	}
	p.Disk.SetQuota(p.Disk.UsedBytes() + c.Rng.Int64N(2<<20))
	refused, err = p.awaitRefusal(c)
	if err != nil {
		return refused, fmt.Errorf("on a full disk: %w", err)
	}
	if c.Rng.IntN(2) == 0 {
		return refused, p.cutWhileFull(c)
	}
	// A little space at first: each step may end within a file.
	for range c.Rng.IntN(4) {
		p.Disk.SetQuota(p.Disk.UsedBytes() + c.Rng.Int64N(256<<10))
		if err := c.workFor(100 * time.Millisecond); err != nil {
			return refused, fmt.Errorf("with little space: %w", err)
		}
	}
	p.Disk.SetQuota(0)
	if err := c.AwaitAcks(goesOnAcks); err != nil {
		return refused, fmt.Errorf("with space again: %w", err)
	}
	return refused, p.CutNow(c)
}

// awaitRefusal returns when batches were refused for want of space.
func (p *Power) awaitRefusal(c *Campaign) (refused bool, err error) {
	deadline := time.Now().Add(fullPatience)
	err = c.Await(func() (bool, error) {
		groups, err := c.Metric(context.Background(), "ingestor_ingest_no_space_groups_total")
		refused = groups > 0
		return refused || time.Now().After(deadline), err
	})
	return refused, err
}

// cutWhileFull takes the power away from a full disk. A start on it may fail, but must not call anything damaged.
func (p *Power) cutWhileFull(c *Campaign) error {
	if err := p.CutNow(c); err != nil {
		return err
	}
	p.Disk.SetQuota(max(p.Disk.UsedBytes(), 1))
	var failed *serverproc.StartError
	switch err := c.restart(context.Background()); {
	case err == nil:
		if _, err := c.server.Kill(); err != nil {
			return err
		}
	case !errors.As(err, &failed) || !failed.Exited:
		return err
	default:
		if err := p.checkEnd(c, exitError); err != nil {
			return fmt.Errorf("start on a full disk: %w", err)
		}
	}
	p.Disk.SetQuota(0)
	return nil
}
