package around_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/internal/pgproxy"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

const packagePath = "./crashtest/around"

func TestMain(m *testing.M) {
	wrapClock()
	goleak.VerifyTestMain(pgtest.Suite{Tests: m})
}

// batchesPerSecond makes some 7,000 records a second of the four generators, which a database keeps up with on a busy machine.
const batchesPerSecond = 20

// campaign is a server under load, and what it writes to beside its files.
type campaign struct {
	*crashtest.Campaign
	t   *testing.T
	dsn string // leads to the database itself, whatever the server's way is
	// rate of each generator, in batches a second.
	rate float64
	// ownLedgers are those of loads that are not the campaign's.
	ownLedgers []string
}

// start starts a server that writes to the database at dsn, by the configuration.
func start(t *testing.T, run *crashlevel.Run, dsn string, server serverproc.Options) *campaign {
	t.Helper()
	server.Binary = serverBinary(t)
	c := &campaign{t: t, dsn: dsn, Campaign: &crashtest.Campaign{
		Dir: diskDir(t), Server: server, DSN: dsn, Rng: rand.New(rand.NewPCG(run.Seed(), 1)),
	}, rate: batchesPerSecond}
	require.NoError(t, c.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func serverBinary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("INGESTOR_SERVER_BIN")
	if path == "" {
		path = filepath.Join("..", "..", "bin", "ingestion-server")
	}
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	_, err = os.Stat(path)
	require.NoError(t, err, "build the server first: make build")
	return path
}

// diskDir is a directory on a disk: temporary directories may be in memory.
func diskDir(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".data", "around"))
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(root, 0o755))
	dir, err := os.MkdirTemp(root, "campaign-*")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kept for a look: %s", dir)
			return
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	return dir
}

func startProxy(t *testing.T, dsn string) *pgproxy.Proxy {
	t.Helper()
	p, err := pgproxy.Start(dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// rounds spreads faults over rounds, each with a load of its own. during runs one and drains the server after it; then everything is judged.
func (c *campaign) rounds(run *crashlevel.Run, faults int, during func(round func() error) error, fault func(i int) error) {
	c.t.Helper()
	const inRound = 30
	for done := 0; done < faults; {
		if done > 0 {
			require.NoError(c.t, c.Restart(c.t.Context()))
		}
		n := min(inRound, faults-done)
		require.NoError(c.t, during(func() error {
			return c.During(c.t.Context(), c.rate, func() error {
				for i := range n {
					if err := fault(done + i); err != nil {
						return fmt.Errorf("fault %d: %w", done+i+1, err)
					}
					run.Explored(1)
				}
				return nil
			})
		}))
		require.NoError(c.t, c.Judge(c.t.Context()))
		done += n
	}
	require.Positive(c.t, c.Acked, "faults without load prove nothing")
	c.t.Logf("%d faults under load; %d batches acked, all judged", faults, c.Acked)
}

// kill ends the server by SIGKILL and judges what is left. KillAtRandom would hold a server that has run for long to the bound on its first ack.
func (c *campaign) kill(ctx context.Context) error {
	return c.Crash(ctx, func() error {
		_, err := c.Kill()
		return err
	})
}

// alone runs a round without a load beside the campaign's own.
func (c *campaign) alone(round func() error) error {
	if err := round(); err != nil {
		return err
	}
	return c.Drain(c.t.Context())
}

// withDatabase is the configuration of a server whose metrics do not wait long for a full batch.
func withDatabase(dsn string) map[string]any {
	config := crashtest.WithDatabase(dsn)
	config["metrics"] = map[string]any{"flush_interval": "100ms"}
	return config
}

// position is the end of the log as the running server tells: what the sink has and what it lacks.
func (c *campaign) position(ctx context.Context, sink string) (flushed, pending float64, err error) {
	if flushed, err = c.SinkMetric(ctx, "ingestor_sink_flushed_lsn", sink); err != nil {
		return 0, 0, err
	}
	pending, err = c.SinkMetric(ctx, "ingestor_sink_pending_records", sink)
	return flushed, pending, err
}

const database = "timescale" // the sink's name

// awaitCaughtUp returns when the database has all that was in the log at the call.
func (c *campaign) awaitCaughtUp(ctx context.Context) error {
	flushed, pending, err := c.position(ctx, database)
	if err != nil {
		return err
	}
	target := flushed + pending
	err = c.Await(func() (bool, error) {
		flushed, _, err := c.position(ctx, database)
		return flushed >= target, err
	})
	if err != nil {
		return fmt.Errorf("catch up to LSN %.0f: %w", target, err)
	}
	return checkpointFits(ctx, c.dsn)
}
