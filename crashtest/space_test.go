package crashtest_test

import (
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// smallDisk mounts an ext4 file system of its own.
func smallDisk(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/dev/loop-control"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root and loop devices")
		}
		t.Skip("needs root and loop devices")
	}
	image := filepath.Join(diskDir(t), "image")
	require.NoError(t, os.WriteFile(image, nil, 0o644))
	require.NoError(t, os.Truncate(image, 1<<30))
	command(t, "mkfs.ext4", "-q", "-m", "0", image)
	dir := t.TempDir()
	command(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { command(t, "umount", dir) })
	return dir
}

func command(t *testing.T, argv ...string) {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	require.NoError(t, err, "%q: %s", argv, out)
}

// fill writes a file until the disk is full to the last block.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	require.NoError(t, file.Sync()) // the blocks of removed files are free once the journal is written
	var disk syscall.Statfs_t
	require.NoError(t, syscall.Statfs(filepath.Dir(path), &disk))
	require.NoError(t, syscall.Fallocate(int(file.Fd()), 0, 0, int64(disk.Bavail)*disk.Bsize-(64<<20)))
	_, err = file.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	for _, size := range []int{1 << 20, 4096, 512} {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	require.NoError(t, file.Close())
}

// TestAFullDiskLosesNothing fills the disk under load, again and again, until a sink has failed and batches were refused. What was refused
// must not be stored, what was acked must be, and once there is space the server goes on by itself, also one that was started while there was none.
func TestAFullDiskLosesNothing(t *testing.T) {
	disk := smallDisk(t)
	ballast := filepath.Join(disk, "ballast")
	run := crashlevel.Start(t, "disk full (ext4)", "times", packagePath)
	c := startCampaign(t, rngOf(run, 0), serverproc.Options{DataDir: filepath.Join(disk, "data")}, "")
	c.Flood = true
	const times = 3
	run.Explored(times)
	runRounds(t, c, times, func() error {
		fill(t, ballast)
		for _, failures := range []string{"ingestor_sink_failures_total", "ingestor_ingest_no_space_groups_total"} {
			require.NoError(t, c.Await(func() (bool, error) {
				value, err := c.Metric(t.Context(), failures)
				return value > 0, err
			}), failures)
		}
		require.NoError(t, os.Remove(ballast))
		require.NoError(t, c.AwaitAcks(100), "there is space")
		require.NoError(t, c.KillAtRandom())

		fill(t, ballast)
		require.NoError(t, c.Restart(t.Context()), "a full disk keeps no server from starting")
		require.NoError(t, c.Await(func() (bool, error) {
			value, err := c.Metric(t.Context(), "ingestor_ingest_no_space_groups_total")
			return value > 0, err
		}), "batches are refused")
		_, err := c.Kill()
		require.NoError(t, err)
		require.NoError(t, c.Restart(t.Context()), "and again")
		require.NoError(t, os.Remove(ballast))
		require.NoError(t, c.AwaitAcks(100), "there is space")
		_, err = c.Kill()
		return err
	})
}

// TestAFullDiskLeavesALogThatStarts lets the disk get full at any byte, of any file, and often takes the power away while it is full. The last
// segment must not be taken for a damaged one then, and there must be no loop of restarts.
//
// https://github.com/grafana/loki/issues/12583
func TestAFullDiskLeavesALogThatStarts(t *testing.T) {
	requireFuse(t)
	run := crashlevel.Start(t, "disk full at any byte (FUSE)", "times", packagePath)
	var refused atomic.Int64
	var all total
	inCampaigns(t, run, crashlevel.Pick(t, 2, 24, 1000), 8, func(t *testing.T, _ int, rng *rand.Rand, crashes int) {
		c, power := onPower(t, rng, nil, "")
		c.Flood = true
		runRounds(t, c, crashes, func() error {
			felt, err := power.Fill(c)
			if felt {
				refused.Add(1)
			}
			return err
		})
		refusals, err := c.Refusals()
		require.NoError(t, err)
		t.Log("refused: ", refusals)
		delete(refusals, "ERROR_CODE_NO_SPACE")
		delete(refusals, "ERROR_CODE_OVERLOADED")
		require.Empty(t, refusals, "a full disk is said to be full, or to have made the queue full")
		all.add(power.Disk)
	})
	t.Logf("%s; batches were refused %d times", all.stats, refused.Load())
	require.Positive(t, refused.Load(), "a disk that no batch found full proves nothing")
}
