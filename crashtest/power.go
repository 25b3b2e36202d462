package crashtest

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/ingestor-project/ingestor/crashtest/powercut"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// Power is a disk that a campaign's server has its data on, and the mount that shows it.
type Power struct {
	Disk *powercut.Disk
	// Dir is where the disk is mounted.
	Dir string
	// RecoveryCuts counts the cuts that hit a server that was not ready yet, Kills the deaths of the process alone shortly before
	// a cut.
	RecoveryCuts, Kills int

	mounted *powercut.Mounted
}

// NewPower mounts a new disk at dir, which must exist.
func NewPower(dir string) (*Power, error) {
	p := &Power{Disk: powercut.NewDisk(), Dir: dir}
	return p, p.mount()
}

func (p *Power) mount() (err error) {
	p.mounted, err = powercut.Mount(p.Disk, p.Dir)
	return err
}

// Close unmounts. REQUIRES: the server has ended.
func (p *Power) Close() error { return p.mounted.Unmount() }

// patience bounds the wait for a chosen operation; when it does not come the power goes anyway.
const patience = 500 * time.Millisecond

// Cut takes the power away at an operation chosen at random, and decides what is left on the disk. Every third time only the process
// dies at first, and another one has worked with what it found in memory, never synced, when the power goes. Every third time the
// power goes once more while the server recovers.
func (p *Power) Cut(c *Campaign) error {
	if c.Rng.IntN(3) == 0 {
		if err := p.killBeforeCut(c); err != nil {
			return err
		}
	}
	if c.Rng.IntN(3) > 0 { // else among the first operations of a server that has just recovered
		if err := c.live(); err != nil {
			return err
		}
	}
	if err := p.stopAt(c, p.choose(c, 400)); err != nil {
		return err
	}
	if err := p.powerOn(c); err != nil || c.Rng.IntN(3) > 0 {
		return err
	}
	return p.cutRecovery(c)
}

// killBeforeCut ends the process as it enters a sync, and starts another one, on a machine that keeps its power.
func (p *Power) killBeforeCut(c *Campaign) error {
	if err := p.stopAt(c, powercut.CutPoint{Op: powercut.Sync, N: 1 + c.Rng.IntN(20)}); err != nil {
		return err
	}
	p.Disk.Resume()
	p.Kills++
	return c.restart(context.Background())
}

// Phantom ends the process as it enters a sync, and lets another one recover what is in memory only and hand it to every sink. Then
// the power goes, and takes all that was not synced: the log must still hold what the sinks have.
func (p *Power) Phantom(c *Campaign) error {
	if err := c.awaitAgain(); err != nil {
		return err
	}
	if err := p.killBeforeCut(c); err != nil {
		return err
	}
	// A batch that is committed lies behind everything that was recovered.
	committed, err := c.committedBook()
	if err != nil {
		return err
	}
	before := committed.AckedBatches()
	// The one that was unanswered may have been committed before the kill.
	if err := c.Await(func() (bool, error) { return committed.AckedBatches() > before+1, nil }); err != nil {
		return err
	}
	p.Disk.CutNow()
	if err := p.killInTheDark(c); err != nil {
		return err
	}
	if err := p.mounted.Unmount(); err != nil {
		return err
	}
	p.Disk.CutLosingAll()
	return p.mount()
}

// stopAt holds the disk at an operation and kills the process.
func (p *Power) stopAt(c *Campaign, point powercut.CutPoint) error {
	p.Disk.CutAt(point)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.Disk.Lost():
	case <-timer.C:
		p.Disk.CutNow()
	}
	return p.killInTheDark(c)
}

// killInTheDark ends the process, if it has not ended by itself, while the disk is held.
func (p *Power) killInTheDark(c *Campaign) error {
	if !c.server.Running() {
		p.Disk.ReleaseBlocked()
		return nil
	}
	// No thread of the process comes back from the kernel once the signal is pending, so no one sees the errors with which the
	// blocked operations end.
	if err := syscall.Kill(c.server.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill the server without power: %w", err)
	}
	p.Disk.ReleaseBlocked()
	_, err := c.server.Wait(context.Background())
	return err
}

// cutRecovery starts the server and takes the power away during its start-up. The server then sees errors from every operation;
// it must not become ready.
func (p *Power) cutRecovery(c *Campaign) error {
	p.Disk.CutAt(p.choose(c, 60))
	started := make(chan error, 1)
	go func() { started <- c.restart(context.Background()) }()
	select {
	case err := <-started:
		// Recovery was over before the chosen operation came.
		if err != nil {
			return err
		}
		p.Disk.CutNow()
		p.Disk.ReleaseBlocked()
		_, err = c.server.Kill()
		return errors.Join(err, p.powerOn(c))
	case <-p.Disk.Lost():
	}
	p.Disk.ReleaseBlocked()
	err := <-started
	var failed *serverproc.StartError
	switch {
	case err == nil:
		// It became ready at that very moment, and knows of its errors by now or will be killed.
		if _, err := c.server.Kill(); err != nil && !errors.Is(err, serverproc.ErrNotRunning) {
			return err
		}
	case !errors.As(err, &failed):
		return err
	default:
		p.RecoveryCuts++
	}
	return p.powerOn(c)
}

func (p *Power) powerOn(c *Campaign) error {
	if err := p.mounted.Unmount(); err != nil {
		return err
	}
	p.Disk.Cut(c.Rng.Uint64())
	return p.mount()
}

// choose picks the operation at which the power goes: any of the next ones, or the next few of one kind; or, often, one of the next syncs,
// before it takes effect. Nearly all syncs are the log's, so that this is a group that is written and not durable.
func (p *Power) choose(c *Campaign, within int) powercut.CutPoint {
	point := powercut.CutPoint{After: c.Rng.IntN(2) == 0}
	kinds := []powercut.Op{powercut.Write, powercut.Sync, powercut.SyncDir, powercut.Create, powercut.Rename, powercut.Remove, powercut.Resize}
	switch c.Rng.IntN(6) {
	case 0:
		point.AnyOp, point.N = true, 1+c.Rng.IntN(within)
	case 1, 2:
		point.Op, point.N, point.After = powercut.Sync, 1+c.Rng.IntN(20), false
	default:
		point.Op, point.N = kinds[c.Rng.IntN(len(kinds))], 1+c.Rng.IntN(6)
	}
	return point
}
