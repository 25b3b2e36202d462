package containers

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// smallDisk mounts a file system in memory that any user may write to.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, to mount a small disk")
		}
		t.Skip("needs root, to mount a small disk")
	}
	dir := t.TempDir()
	mount := func(argv ...string) {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		require.NoError(t, err, "%q: %s", argv, out)
	}
	mount("mount", "-t", "tmpfs", "-o", "mode=1777,size="+size, "tmpfs", dir)
	t.Cleanup(func() { mount("umount", dir) })
	return dir
}

// fill writes a file until nothing is left.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	require.NoError(t, err)
	_, err = io.Copy(file, zeros{})
	require.True(t, errors.Is(err, syscall.ENOSPC), "%v", err)
	require.NoError(t, file.Close())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestADatabaseWithoutSpaceLosesNothing fills the disk that holds the whole database, its own log included, under load. PostgreSQL fails in
// statements, or gives up and cannot even recover. With space again, and started again where it has ended, it gets all that it lacks.
func TestADatabaseWithoutSpaceLosesNothing(t *testing.T) {
	run := crashlevel.Start(t, "database faults", "full disks", packagePath)
	requireDocker(t)
	disk := smallDisk(t, "1g")
	ballast := filepath.Join(disk, "ballast")
	network := newNetwork(t)
	database := startDatabase(t, network, map[string]string{"DATA": "/space/test"}, disk+":/space")
	s := startServer(t, serverOptions{network: network, args: []string{"--timescale.dsn=" + database.insideDSN}})
	c := newClients(t, run, s, recordsPerSecond)
	c.during(func() {
		for range crashlevel.Pick(t, 1, 2, 40) {
			c.work(50)
			seen := noSpaceErrors(t, database)
			fill(t, ballast)
			require.Eventually(t, func() bool { return noSpaceErrors(t, database) > seen }, 3*time.Minute, 100*time.Millisecond,
				"the database does not notice that its disk is full")
			c.work(50)
			require.NoError(t, os.Remove(ballast))
			run.Explored(1)
			startIfEnded(t, database)
			c.work(50)
		}
	})
	startIfEnded(t, database)
	c.judge(database.dsn)
}

// startIfEnded starts a database that has given up.
func startIfEnded(t *testing.T, d *databaseContainer) {
	t.Helper()
	if dockerDo(t, "inspect", "--format", "{{.State.Running}}", d.GetContainerID()) != "true" {
		startAgain(t, d)
	}
}

// noSpaceErrors counts them in what the database has logged.
func noSpaceErrors(t *testing.T, d *databaseContainer) int {
	t.Helper()
	return strings.Count(dockerDo(t, "logs", d.GetContainerID()), "No space left on device")
}
