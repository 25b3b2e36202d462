package machine

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProbeMeasuresAndCleansUp(t *testing.T) {
	dir := t.TempDir()
	histogram, err := ProbeFdatasync(t.Context(), dir, 20*time.Millisecond)
	require.NoError(t, err)
	require.Positive(t, histogram.TotalCount())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestProbeAppendMeasuresWholeBlocksAndCleansUp(t *testing.T) {
	dir, err := os.MkdirTemp(".", ".work-") // the system's temporary directory may be in memory, which has no O_DIRECT
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	for _, direct := range []bool{false, true} {
		found, err := ProbeAppend(t.Context(), dir, 5000, direct, 20*time.Millisecond)
		require.NoError(t, err)
		require.Equal(t, 8192, found.WriteBytes)
		require.Positive(t, found.Latency.TotalCount())
		require.GreaterOrEqual(t, found.Elapsed, 20*time.Millisecond)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func TestProbeReadReadsAllOfEveryFile(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i, size := range []int{3 << 20, 0, 5000} {
		paths = append(paths, fmt.Sprintf("%s/%d", dir, i))
		require.NoError(t, os.WriteFile(paths[i], make([]byte, size), 0o644))
	}
	found, err := ProbeRead(t.Context(), paths)
	require.NoError(t, err)
	require.EqualValues(t, 3<<20+5000, found.Bytes)
	require.EqualValues(t, 4, found.Latency.TotalCount())
	require.Positive(t, found.Elapsed)
	_, err = ProbeRead(t.Context(), []string{dir + "/absent"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestProbeNeedsADirectory(t *testing.T) {
	_, err := ProbeFdatasync(t.Context(), t.TempDir()+"/absent", time.Millisecond)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ProbeAppend(t.Context(), t.TempDir()+"/absent", 1, false, time.Millisecond)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestParseCPUTimes(t *testing.T) {
	earlier, err := parseCPUTimes("cpu  100 0 50 800 10 2 3 40 5 0\ncpu0 1 2 3\n")
	require.NoError(t, err)
	require.Equal(t, CPUTimes{Total: 1005, Steal: 40, Busy: 155}, earlier)
	later := CPUTimes{Total: 2005, Steal: 90, Busy: 255}
	require.InDelta(t, 5.0, later.StealPctSince(earlier), 1e-9)
	require.Zero(t, earlier.StealPctSince(earlier))
	require.Equal(t, time.Second, later.BusySince(earlier))

	_, err = parseCPUTimes("intr 1 2 3")
	require.Error(t, err)
}

func TestMountOfTakesTheLongestMountPoint(t *testing.T) {
	mounts := "/dev/a / ext4 rw 0 0\ntmpfs /data tmpfs rw 0 0\n/dev/b /data/wal xfs rw 0 0\n"
	tests := []struct{ path, device, fileSystem string }{
		{"/home/x", "/dev/a", "ext4"},
		{"/data", "tmpfs", "tmpfs"},
		{"/database", "/dev/a", "ext4"},
		{"/data/wal/1", "/dev/b", "xfs"},
	}
	for _, test := range tests {
		device, fileSystem := mountOf(mounts, test.path)
		require.Equal(t, test.device, device, test.path)
		require.Equal(t, test.fileSystem, fileSystem, test.path)
	}
}

func TestCheckDurable(t *testing.T) {
	require.ErrorIs(t, CheckDurable("/dev/shm"), ErrVolatile)
	require.ErrorIs(t, CheckDurable(t.TempDir()+"/absent"), os.ErrNotExist)
}

func TestFingerprint(t *testing.T) {
	env, err := Fingerprint(t.TempDir())
	require.NoError(t, err)
	require.NotEmpty(t, env.CPUModel)
	require.NotEmpty(t, env.Kernel)
	require.NotEmpty(t, env.FileSystem)
	require.Positive(t, env.Cores)
	require.Positive(t, env.MemoryBytes)
}
