package containers

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/verify"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

const (
	packagePath = "./crashtest/containers"
	// recordsPerSecond is what a database keeps up with on a busy machine.
	recordsPerSecond = 8000
)

// clients send to one server and keep the ledgers.
type clients struct {
	t        *testing.T
	s        *serverContainer
	rng      *rand.Rand
	rate     float64 // records a second; 0: as fast as the server answers
	ledgers  []string
	writer   *ledger.Writer
	acked    uint64 // batches, by loads that have ended
	sentMore uint64 // batches sent again
}

func newClients(t *testing.T, run *crashlevel.Run, s *serverContainer, rate float64) *clients {
	return &clients{t: t, s: s, rng: rand.New(rand.NewPCG(run.Seed(), 1)), rate: rate}
}

// during runs fn while clients send. They reconnect and send again until everything is settled.
func (c *clients) during(fn func()) {
	c.t.Helper()
	config := engine.Config{
		Target: c.s.address, Tenants: []engine.Tenant{{ID: "dev", APIKey: c.s.apiKey}}, Endpoints: []string{"orders", "clicks"},
		BatchRecords: 100, InFlight: 8, Streams: 2, RetryFor: 5 * time.Minute, Epoch: 1, FirstProducer: 16 * len(c.ledgers),
		AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, Seed: c.rng.Uint64(),
		Phases: []engine.Phase{{Name: "until stopped", Duration: time.Hour, RecordsPerSecond: c.rate}},
	}
	if c.rate == 0 {
		config.BatchRecords = 1000
	}
	for i := range config.RunID {
		config.RunID[i] = byte(c.rng.Uint32())
	}
	path := filepath.Join(c.t.TempDir(), "ledger")
	writer, err := ledger.Create(path, config.LedgerHeader())
	require.NoError(c.t, err)
	c.writer, config.Ledger = writer, writer
	c.ledgers = append(c.ledgers, path)

	ctx, stop := context.WithCancel(c.t.Context())
	defer stop()
	done := make(chan error, 1)
	var result *engine.Result
	go func() {
		var err error
		result, err = engine.Run(ctx, config)
		done <- err
	}()
	fn()
	stop()
	require.ErrorIs(c.t, <-done, context.Canceled)
	require.NoError(c.t, writer.Close())
	require.Positive(c.t, result.Measured.Acked.Batches, "a crash without load proves nothing")
	require.Empty(c.t, result.LaneErrors)
	c.acked += result.Measured.Acked.Batches
	c.sentMore += result.Measured.Resent.Batches
}

// work lets the containers run until n more batches were acked, and for a random time more. REQUIRES: within during.
func (c *clients) work(n uint64) {
	c.t.Helper()
	before := c.writer.AckedBatches()
	require.Eventually(c.t, func() bool { return c.writer.AckedBatches() >= before+n }, 3*time.Minute, 10*time.Millisecond,
		"%d batches are not acked", n)
	timer := time.NewTimer(time.Duration(c.rng.Int64N(int64(300 * time.Millisecond))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.t.Context().Done():
	}
}

// judge drains the server and compares by identity what is in the Parquet files, and where there is a database in that, with the ledgers.
func (c *clients) judge(dsn string) {
	c.t.Helper()
	c.s.drain(c.t)
	report, err := verify.Parquet(c.t.Context(), c.s.dataDir, c.ledgers...)
	requireGood(c.t, report, err)
	if dsn != "" {
		report, err = verify.Postgres(c.t.Context(), dsn, c.ledgers...)
		requireGood(c.t, report, err)
	}
}

func requireGood(t *testing.T, report *verify.Report, err error) {
	t.Helper()
	require.NoError(t, err)
	t.Log(report)
	require.True(t, report.OK(), "%s\n%+v", report, report.Examples)
	require.Positive(t, report.Rows)
}
