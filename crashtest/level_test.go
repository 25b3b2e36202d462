package crashtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

const (
	packagePath    = "./crashtest"
	crashesInRound = 20
	roundTimeout   = 8 * time.Minute
	// crashesInCampaign bounds what a campaign stores, all of which is judged after each round.
	crashesInCampaign = 20
	// campaignsAtOnce: a campaign mostly waits, for the moment of a crash and for clients to come back.
	campaignsAtOnce = 4
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

// rngOf is the source of the choices of one part of a run.
func rngOf(run *crashlevel.Run, part int) *rand.Rand {
	return rand.New(rand.NewPCG(run.Seed(), uint64(part)))
}

func startCampaign(t *testing.T, rng *rand.Rand, options serverproc.Options, dsn string) *crashtest.Campaign {
	t.Helper()
	options.Binary = serverBinary(t)
	c := &crashtest.Campaign{Dir: diskDir(t), Server: options, DSN: dsn, Rng: rng}
	require.NoError(t, c.Start(context.Background()))
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// runRounds spreads a campaign's crashes over rounds and requires that load really ran.
func runRounds(t *testing.T, c *crashtest.Campaign, crashes int, crash func() error) {
	t.Helper()
	for done := 0; done < crashes; done += crashesInRound {
		if done > 0 {
			require.NoError(t, c.Restart(context.Background()))
		}
		ctx, cancel := context.WithTimeout(context.Background(), roundTimeout)
		_, err := c.Round(ctx, min(crashesInRound, crashes-done), crash)
		cancel()
		require.NoError(t, err)
	}
	require.Positive(t, c.Acked, "crashes without load prove nothing")
	t.Logf("%d crashes under load and %d during start-up, %d states judged before recovery; %d batches acked, all judged; "+
		"durable writes again %s after a start at the latest", crashes, c.StartupKills, c.Judged, c.Acked, c.SlowestAgain.Round(time.Millisecond))
}

// inCampaigns spreads crashes over campaigns, so many to each, a few of which run at a time. Each is a subtest by its number, so that one can be
// repeated alone: its choices depend on the run's seed and its number only.
func inCampaigns(t *testing.T, run *crashlevel.Run, crashes, each int, campaign func(t *testing.T, number int, rng *rand.Rand, crashes int)) {
	t.Helper()
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range campaignsAtOnce {
		workers.Go(func() {
			for number := range numbers {
				t.Run(fmt.Sprintf("campaign-%d", number), func(t *testing.T) {
					campaign(t, number, rngOf(run, number), min(each, crashes-number*each))
				})
			}
		})
	}
	for number := range (crashes + each - 1) / each {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	run.Explored(int64(crashes))
}
