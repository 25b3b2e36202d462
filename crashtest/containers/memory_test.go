package containers

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// memoryKilled waits for the end of a container and requires that the kernel killed it for its memory.
func memoryKilled(t *testing.T, s *serverContainer) {
	t.Helper()
	require.Equal(t, 137, exitCode(t, s))
	require.Equal(t, "true", dockerDo(t, "inspect", "--format", "{{.State.OOMKilled}}", s.GetContainerID()))
}

// limitMemory changes the limit of a container that does not run.
func limitMemory(t *testing.T, s *serverContainer, limit string) {
	t.Helper()
	dockerDo(t, "update", "--memory", limit, "--memory-swap", limit, s.GetContainerID())
}

// TestKilledForItsMemoryLosesNothing gives a tenth of what the default budgets want (docs/runbook.md, "Memory"). The kernel kills the server
// under load, or while it recovers from the last time; then it gets enough for a while, goes on, and is killed by hand.
func TestKilledForItsMemoryLosesNothing(t *testing.T) {
	run := crashlevel.Start(t, "OOM kills", "OOM kills", packagePath)
	requireDocker(t)
	const tooSmall, enough = "160m", "1664m"
	s := startServer(t, serverOptions{memoryBytes: 160 << 20, args: []string{"--wal.segment_bytes=64MiB"}})
	c := newClients(t, run, s, 0)
	kills := crashlevel.Pick(t, 1, 3, 100)
	c.during(func() {
		c.work(1)
		for i := range kills {
			if i > 0 {
				kill(t, s)
				limitMemory(t, s, tooSmall)
				dockerDo(t, "start", s.GetContainerID())
			}
			memoryKilled(t, s)
			run.Explored(1)
			limitMemory(t, s, enough)
			startAgain(t, s)
			c.work(100)
		}
	})
	c.judge("")
}

// The smallest server that docs/runbook.md names, and what it needs.
var smallest = serverOptions{
	memoryBytes: 384 << 20,
	env:         map[string]string{"GOMEMLIMIT": "300MiB"},
	args:        []string{"--memtable.budget_bytes=32MiB", "--memtable.generation_bytes=4MiB", "--ingest.queue_bytes=8MiB"},
}

// TestTheDocumentedMemoryIsEnough has the smallest server take as much as comes, which is more than Parquet takes at a time and many times
// the server's memory, without a database that it is to write to as well. In the middle it is killed and reads all that again.
func TestTheDocumentedMemoryIsEnough(t *testing.T) {
	run := crashlevel.Start(t, "memory limits", "batches of 1,000", packagePath)
	requireDocker(t)
	network := newNetwork(t)
	database := startDatabase(t, network, nil)
	kill(t, database)
	options := smallest
	options.network = network
	options.args = append([]string{"--timescale.dsn=" + database.insideDSN}, options.args...)
	s := startServer(t, options)
	c := newClients(t, run, s, 0)
	batches := uint64(crashlevel.Pick(t, 400, 800, 20_000)) // 150 KB each
	c.during(func() {
		c.work(batches / 2)
		kill(t, s)
		startAgain(t, s)
		c.work(batches / 2)
	})
	run.Explored(int64(c.acked))
	require.Equal(t, "running false", dockerDo(t, "inspect", "--format", "{{.State.Status}} {{.State.OOMKilled}}", s.GetContainerID()))
	startAgain(t, database)
	c.judge(database.dsn)
}
