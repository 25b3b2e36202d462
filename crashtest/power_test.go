package crashtest_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/crashtest/powercut"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

func requireFuse(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root and /dev/fuse")
		}
		t.Skip("needs root and /dev/fuse")
	}
}

// onPower starts a campaign on a disk whose power can be cut.
func onPower(t *testing.T, rng *rand.Rand, config map[string]any, dsn string) (*crashtest.Campaign, *crashtest.Power) {
	t.Helper()
	power, err := crashtest.NewPower(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, power.Close()) })
	// The data directory does not exist yet: its own name is at stake as well.
	c := startCampaign(t, rng, serverproc.Options{DataDir: filepath.Join(power.Dir, "data"), Config: config}, dsn)
	on, err := powercut.IsMounted(c.DataDir())
	require.NoError(t, err)
	require.True(t, on, "the server must write to the disk whose power is cut")
	return c, power
}

// total adds up what disks did.
type total struct {
	mu    sync.Mutex
	stats powercut.Stats
}

func (s *total) add(d *powercut.Disk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Add(d.Stats())
}

// TestPowerCuts: every third campaign has a database as a second sink, which keeps its power.
func TestPowerCuts(t *testing.T) {
	requireFuse(t)
	run := crashlevel.Start(t, "power cuts (FUSE)", "cuts", packagePath)
	var all total
	inCampaigns(t, run, crashlevel.Pick(t, 6, 300, 10_000), crashesInCampaign, func(t *testing.T, number int, rng *rand.Rand, crashes int) {
		var config map[string]any
		dsn := ""
		if number%3 == 1 {
			dsn = pgtest.Database(t)
			config = crashtest.WithDatabase(dsn)
		}
		c, power := onPower(t, rng, config, dsn)
		runRounds(t, c, crashes, func() error { return power.Cut(c) })
		t.Logf("%d cuts during recovery, %d shortly after a kill", power.RecoveryCuts, power.Kills)
		all.add(power.Disk)
	})
	t.Log(all.stats)
	require.Positive(t, all.stats.SectorsLost+all.stats.NamesLost, "cuts that take nothing prove nothing")
}

// TestNoPhantomAfterAProcessCrashAndThenAPowerCut: the process dies with bytes in memory that were never synced, another one recovers them and
// hands them on, the machine loses its power. A log that was not synced before it was replayed has lost what the sinks have.
//
// https://github.com/apache/kafka/pull/8812
func TestNoPhantomAfterAProcessCrashAndThenAPowerCut(t *testing.T) {
	requireFuse(t)
	run := crashlevel.Start(t, "kill, recovery, power cut (FUSE)", "cuts", packagePath)
	inCampaigns(t, run, crashlevel.Pick(t, 2, 20, 500), 10, func(t *testing.T, _ int, rng *rand.Rand, crashes int) {
		dsn := pgtest.Database(t)
		c, power := onPower(t, rng, crashtest.WithDatabase(dsn), dsn)
		runRounds(t, c, crashes, func() error { return power.Phantom(c) })
	})
}
