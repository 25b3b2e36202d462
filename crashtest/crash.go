package crashtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// WithShortQueues is the configuration of a server with next to no room for batches that wait for the log, or metrics that wait for the
// database.
func WithShortQueues(dsn string) map[string]any {
	config := WithDatabase(dsn)
	ingest := maps.Clone(config["ingest"].(map[string]any))
	ingest["queue_batches"] = 4
	config["ingest"] = ingest
	config["metrics"] = map[string]any{"buffer_size": 200, "batch_size": 100, "flush_interval": "100ms", "shards": 1}
	return config
}

// Kill sends SIGKILL and waits for the end.
func (c *Campaign) Kill() (serverproc.ExitStatus, error) { return c.server.Kill() }

// AwaitEnd waits for the server to end by itself.
func (c *Campaign) AwaitEnd(ctx context.Context) (serverproc.ExitStatus, error) {
	return c.server.Wait(ctx)
}

// Restart starts a drained or killed server again.
func (c *Campaign) Restart(ctx context.Context) error { return c.restart(ctx) }

// A short life is hit while it still replays and catches up. A long one has made checkpoints and cut the log, which happens once a
// second.
const (
	shortLife = 200 * time.Millisecond
	longLife  = 900 * time.Millisecond // and up to as much again
)

// live lets the server work until its end. Two of three lives count from the first batches that are acked, however long these take, the
// others from when the server is ready. Most are short, every sixth is long.
func (c *Campaign) live() error {
	if c.Rng.IntN(3) > 0 {
		if err := c.awaitAgain(); err != nil {
			return err
		}
	}
	if c.Rng.IntN(6) == 0 {
		return c.workFor(longLife + time.Duration(c.Rng.Int64N(int64(longLife))))
	}
	return c.workFor(time.Duration(c.Rng.Int64N(int64(shortLife))))
}

// KillAtRandom lets the server work for a random time and kills it. REQUIRES: a load runs.
func (c *Campaign) KillAtRandom() error {
	if err := c.live(); err != nil {
		return err
	}
	status, err := c.server.Kill()
	if err != nil {
		return err
	}
	return killed(status, c.server)
}

func killed(status serverproc.ExitStatus, s *serverproc.Server) error {
	if status.Signal != syscall.SIGKILL {
		return fmt.Errorf("the server ended with %v instead of SIGKILL\n%s", status, s.LogTail())
	}
	return nil
}

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
	ctx, cancel := context.WithTimeout(context.Background(), progressTimeout)
	defer cancel()
	var early *serverproc.StartError
	if err := c.restart(ctx); errors.As(err, &early) && early.Exited {
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

// exitPoisoned is the server's exit code after a failed write or sync.
const exitPoisoned = 4

// FailFdatasync restarts the server under strace, which lets a thread's N-th fdatasync fail with EIO, once. A second call would succeed
// and prove nothing: the server must not make it, but end.
func (c *Campaign) FailFdatasync() error {
	status, err := c.server.Kill()
	if err == nil {
		err = killed(status, c.server)
	}
	if err != nil {
		return err
	}
	// The threads of a start-up make fewer calls than this.
	n := 40 + c.Rng.IntN(60)
	c.server.SetWrap([]string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
		"-e", fmt.Sprintf("inject=fdatasync:error=EIO:when=%d", n)})
	defer c.server.SetWrap(nil)
	ctx, cancel := context.WithTimeout(context.Background(), progressTimeout)
	defer cancel()
	var early *serverproc.StartError
	if err := c.restart(ctx); errors.As(err, &early) && early.Exited {
		status = early.Status // the clients were faster than we
	} else if err != nil {
		return err
	} else if status, err = c.server.Wait(ctx); err != nil {
		return errors.Join(fmt.Errorf("fdatasync number %d of a thread failed and the server goes on: %w", n, err), c.server.Close())
	}
	if status.Code != exitPoisoned {
		return fmt.Errorf("after a failed fdatasync the server ended with %v\n%s", status, c.server.LogTail())
	}
	return nil
}

// DataDir is the server's data directory.
func (c *Campaign) DataDir() string { return c.server.DataDir() }

// Metric is a metric of the running server, summed over its series.
func (c *Campaign) Metric(ctx context.Context, name string) (float64, error) {
	families, err := c.server.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	value, ok := serverproc.SumMetric(families, name)
	if !ok {
		return 0, fmt.Errorf("the server has no metric %s", name)
	}
	return value, nil
}
