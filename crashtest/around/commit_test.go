package around_test

import (
	"testing"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/internal/pgproxy"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// cutTransaction arms the i-th fault, at each point in turn, for records and for metrics in turn, and returns when it has happened.
func (c *campaign) cutTransaction(p *pgproxy.Proxy, i int) error {
	points := []pgproxy.Point{pgproxy.BeforeCommit, pgproxy.AfterCommit, pgproxy.InCopy}
	tables := []string{"ingestor.records", "ingestor.metrics"}
	return c.AwaitClosed(p.Arm(pgproxy.Fault{
		Point: points[i%len(points)], Table: tables[i/len(points)%len(tables)],
		Skip: c.Rng.IntN(3), CopyBytes: c.Rng.IntN(2000),
	}))
}

// TestATransactionWhoseConnectionIsCut cuts the server's transactions while records and metrics come in. The server lives, so every record
// and every metric that it has taken must be stored, and once.
func TestATransactionWhoseConnectionIsCut(t *testing.T) {
	t.Parallel()
	run := crashlevel.Start(t, "lost COMMIT answers", "cut transactions", packagePath)
	dsn := pgtest.Database(t)
	p := startProxy(t, dsn)
	c := start(t, run, dsn, serverproc.Options{Config: withDatabase(p.DSN())})
	buffered := c.whileMetricsCome(storagepb.AckLevel_ACK_LEVEL_BUFFERED)
	c.rounds(run, crashlevel.Pick(t, 6, 30, 900), buffered, func(i int) error {
		if err := c.cutTransaction(p, i); err != nil {
			return err
		}
		return checkpointFits(t.Context(), dsn)
	})
}

// TestKilledWhileTheOutcomeIsUnknown kills the server at the moment its transaction is cut: what it knew of it is gone, and the next one finds
// out from the checkpoint row alone. Metrics are asked for at COMMITTED, since those in memory die with the server.
func TestKilledWhileTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	run := crashlevel.Start(t, "lost COMMIT answers", "cut transactions", packagePath)
	dsn := pgtest.Database(t)
	p := startProxy(t, dsn)
	c := start(t, run, dsn, serverproc.Options{Config: withDatabase(p.DSN())})
	committed := c.whileMetricsCome(storagepb.AckLevel_ACK_LEVEL_COMMITTED)
	c.rounds(run, crashlevel.Pick(t, 3, 18, 600), committed, func(i int) error {
		if err := c.cutTransaction(p, i); err != nil {
			return err
		}
		if err := c.kill(t.Context()); err != nil {
			return err
		}
		if err := checkpointFits(t.Context(), dsn); err != nil {
			return err
		}
		return c.Restart(t.Context())
	})
}
