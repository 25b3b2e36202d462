package crashtest

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// WithDatabase is the configuration of a server that writes records to a database too.
func WithDatabase(dsn string) map[string]any {
	config := smallServer()
	config["timescale"] = map[string]any{"dsn": dsn}
	return config
}

// WithoutFlush is the configuration of a server that leaves all in the log until it is drained.
func WithoutFlush() map[string]any {
	config := smallServer()
	config["memtable"] = map[string]any{"generation_bytes": "64MiB", "generation_age": "1h", "budget_bytes": "512MiB"}
	return config
}

// Kill sends SIGKILL and waits for the end.
func (c *Campaign) Kill() (serverproc.ExitStatus, error) { return c.server.Kill() }

// Restart starts a drained or killed server again.
func (c *Campaign) Restart(ctx context.Context) error { return c.server.Restart(ctx) }

// KillAtRandom lets the server work for a random time of up to 200 ms and kills it.
func (c *Campaign) KillAtRandom() error {
	if err := c.workFor(time.Duration(c.Rng.Int64N(int64(200 * time.Millisecond)))); err != nil {
		return err
	}
	status, err := c.server.Kill()
	if err != nil {
		return err
	}
	return killed(status, c.server)
}

// workFor returns when the time is over, or with an error when the server has ended by itself before.
func (c *Campaign) workFor(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.server.Ended():
		status, err := c.server.Wait(context.Background())
		return errors.Join(err, fmt.Errorf("the server ended by itself: %v\n%s", status, c.server.LogTail()))
	}
}

func killed(status serverproc.ExitStatus, s *serverproc.Server) error {
	if status.Signal != syscall.SIGKILL {
		return fmt.Errorf("the server ended with %v instead of SIGKILL\n%s", status, s.LogTail())
	}
	return nil
}

// fdatasyncTimeout bounds the wait for a thread to make its N-th call.
const fdatasyncTimeout = 20 * time.Second

// KillAtFdatasync restarts the server under strace, which kills it as a thread enters its N-th fdatasync. The server's thread for the log
// makes far more of these calls than any other, so it is nearly always the one that is hit: the group is written, and never synced.
func (c *Campaign) KillAtFdatasync() error {
	status, err := c.server.Kill()
	if err == nil {
		err = killed(status, c.server)
	}
	if err != nil {
		return err
	}
	n := 1 + c.Rng.IntN(60)
	c.server.SetWrap([]string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
		"-e", fmt.Sprintf("inject=fdatasync:signal=KILL:when=%d", n)})
	defer c.server.SetWrap(nil)
	ctx, cancel := context.WithTimeout(context.Background(), fdatasyncTimeout)
	defer cancel()
	var early *serverproc.StartError
	if err := c.server.Restart(ctx); errors.As(err, &early) && early.Exited {
		return killed(early.Status, c.server) // already during recovery
	} else if err != nil {
		return err
	}
	status, err = c.server.Wait(ctx)
	if err != nil {
		return fmt.Errorf("no thread made %d calls of fdatasync: %w", n, err)
	}
	return killed(status, c.server)
}

// DataDir is the server's data directory.
func (c *Campaign) DataDir() string { return c.server.DataDir() }
