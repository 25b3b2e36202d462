package crashtest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/crashtest/powercut"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

func TestPowerCuts(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root and /dev/fuse")
		}
		t.Skip("needs root and /dev/fuse")
	}
	power, err := crashtest.NewPower(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, power.Close()) })
	// The data directory does not exist yet: its own name is at stake as well.
	c := startCampaign(t, serverproc.Options{DataDir: filepath.Join(power.Dir, "data")}, "")
	onPower, err := powercut.IsMounted(c.DataDir())
	require.NoError(t, err)
	require.True(t, onPower, "the server must write to the disk whose power is cut")

	runRounds(t, c, *cutsFlag, func() error { return power.Cut(c) })
	stats := power.Disk.Stats()
	t.Logf("%s; %d cuts during recovery, %d shortly after a kill", stats, power.RecoveryCuts, power.Kills)
	require.Positive(t, stats.SectorsLost+stats.NamesLost, "cuts that take nothing prove nothing")
}
