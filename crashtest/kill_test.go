package crashtest_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// kills is a test's part of all the kills.
func kills(t *testing.T, percent int) int {
	t.Helper()
	return max(1, crashlevel.Pick(t, 20, 200, 5000)*percent/100)
}

func TestSigkillAtRandomMoments(t *testing.T) {
	run := crashlevel.Start(t, "SIGKILL under load", "kills", packagePath)
	inCampaigns(t, run, kills(t, 70), crashesInCampaign, func(t *testing.T, _ int, rng *rand.Rand, crashes int) {
		c := startCampaign(t, rng, serverproc.Options{}, "")
		runRounds(t, c, crashes, c.KillAtRandom)
	})
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
	run := crashlevel.Start(t, "SIGKILL at fdatasync (strace)", "kills", packagePath)
	inCampaigns(t, run, kills(t, 20), crashesInCampaign, func(t *testing.T, _ int, rng *rand.Rand, crashes int) {
		c := startCampaign(t, rng, serverproc.Options{}, "")
		runRounds(t, c, crashes, c.KillAtFdatasync)
	})
}

func TestAFailedFdatasyncEndsTheServer(t *testing.T) {
	requireStrace(t)
	run := crashlevel.Start(t, "failed fdatasync (strace)", "failures", packagePath)
	inCampaigns(t, run, kills(t, 5), crashesInCampaign, func(t *testing.T, _ int, rng *rand.Rand, crashes int) {
		c := startCampaign(t, rng, serverproc.Options{}, "")
		runRounds(t, c, crashes, c.FailFdatasync)
	})
}

func TestSigkillWithADatabaseAsSecondSink(t *testing.T) {
	run := crashlevel.Start(t, "SIGKILL, with a database", "kills", packagePath)
	inCampaigns(t, run, kills(t, 10), crashesInCampaign, func(t *testing.T, _ int, rng *rand.Rand, crashes int) {
		dsn := pgtest.Database(t)
		c := startCampaign(t, rng, serverproc.Options{Config: crashtest.WithDatabase(dsn)}, dsn)
		runRounds(t, c, crashes, c.KillAtRandom)
	})
}

// TestAServerThatIsKilledIsKilled holds the harness to its word: the process must have ended by SIGKILL, not by a drain.
func TestAServerThatIsKilledIsKilled(t *testing.T) {
	c := startCampaign(t, rand.New(rand.NewPCG(1, 1)), serverproc.Options{}, "")
	status, err := c.Kill()
	require.NoError(t, err)
	require.Equal(t, syscall.SIGKILL, status.Signal, fmt.Sprint(status))
}
