package crashtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

const (
	crashesInRound = 20
	roundTimeout   = 8 * time.Minute
)

// serverBinary is the built server. It is not built here: what is tested is what will be run.
func serverBinary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("INGESTOR_SERVER_BIN")
	if path == "" {
		path = filepath.Join("..", "bin", "ingestion-server")
	}
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	_, err = os.Stat(path)
	require.NoError(t, err, "build the server first: make build")
	return path
}

// newRng prints the seed that repeats its choices.
func newRng(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed: go test ./crashtest -run '^%s$' -args -seed=%d", t.Name(), seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// diskDir is a directory on a disk: temporary directories may be in memory.
func diskDir(t *testing.T) string {
	t.Helper()
	root := filepath.Join("..", ".data", "crashtest")
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
	dir, err = filepath.Abs(dir)
	require.NoError(t, err)
	return dir
}

func startCampaign(t *testing.T, options serverproc.Options, dsn string) *crashtest.Campaign {
	t.Helper()
	options.Binary = serverBinary(t)
	c := &crashtest.Campaign{Dir: diskDir(t), Server: options, DSN: dsn, Rng: newRng(t)}
	require.NoError(t, c.Start(context.Background()))
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// runRounds spreads crashes over rounds and requires that load really ran.
func runRounds(t *testing.T, c *crashtest.Campaign, crashes int, crash func() error) {
	t.Helper()
	total := uint64(0)
	for done := 0; done < crashes; done += crashesInRound {
		if done > 0 {
			require.NoError(t, c.Restart(context.Background()))
		}
		ctx, cancel := context.WithTimeout(context.Background(), roundTimeout)
		acked, err := c.Round(ctx, min(crashesInRound, crashes-done), crash)
		cancel()
		require.NoError(t, err)
		total += acked
	}
	require.Positive(t, total, "crashes without load prove nothing")
	t.Logf("%d crashes under load and %d during start-up; %d batches acked, all judged", crashes, c.StartupKills, total)
}

// kills is a test's part of all the kills.
func kills(percent int) int { return max(1, *killsFlag*percent/100) }

func TestSigkillAtRandomMoments(t *testing.T) {
	c := startCampaign(t, serverproc.Options{}, "")
	runRounds(t, c, kills(70), c.KillAtRandom)
}

func requireStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("strace is missing")
		}
		t.Skip("strace is not installed")
	}
}

func TestSigkillAtTheNthFdatasync(t *testing.T) {
	requireStrace(t)
	c := startCampaign(t, serverproc.Options{}, "")
	runRounds(t, c, kills(20), c.KillAtFdatasync)
}

func TestAFailedFdatasyncEndsTheServer(t *testing.T) {
	requireStrace(t)
	c := startCampaign(t, serverproc.Options{}, "")
	runRounds(t, c, kills(5), c.FailFdatasync)
}

func TestSigkillWithADatabaseAsSecondSink(t *testing.T) {
	dsn := pgtest.Database(t)
	c := startCampaign(t, serverproc.Options{Config: crashtest.WithDatabase(dsn)}, dsn)
	runRounds(t, c, kills(10), c.KillAtRandom)
}

// TestAServerThatIsKilledIsKilled holds the harness to its word: the process must have ended by SIGKILL, not by a drain.
func TestAServerThatIsKilledIsKilled(t *testing.T) {
	c := startCampaign(t, serverproc.Options{}, "")
	status, err := c.Kill()
	require.NoError(t, err)
	require.Equal(t, syscall.SIGKILL, status.Signal, fmt.Sprint(status))
}
