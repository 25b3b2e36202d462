package around_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/loadgen/verify"
)

// awaitFailures returns when the database sink has failed n more times.
func (c *campaign) awaitFailures(ctx context.Context, n float64) error {
	const failures = "ingestor_sink_failures_total"
	before, err := c.SinkMetric(ctx, failures, database)
	if err != nil {
		return err
	}
	return c.Await(func() (bool, error) {
		now, err := c.SinkMetric(ctx, failures, database)
		return now >= before+n, err
	})
}

// exec runs statements on a connection of its own.
func exec(ctx context.Context, dsn string, statements ...string) (err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// TestADatabaseThatShutsDownAtOnce takes the database away and brings it back, by PostgreSQL's immediate shutdown and by SIGKILL. The others
// use the same server: it does not run beside them.
func TestADatabaseThatShutsDownAtOnce(t *testing.T) {
	run := crashlevel.Start(t, "database faults", "shutdowns", packagePath)
	cluster, dsn := pgtest.Private(t)
	c := start(t, run, dsn, serverproc.Options{Config: withDatabase(dsn)})
	c.rounds(run, crashlevel.Pick(t, 1, 4, 200), c.alone, func(i int) error {
		if err := c.AwaitAcks(uint64(1 + c.Rng.IntN(100))); err != nil {
			return err
		}
		end := cluster.Abort
		if i%3 == 2 {
			end = cluster.Kill
		}
		if err := end(t.Context()); err != nil {
			return err
		}
		if err := c.AwaitAcks(100); err != nil {
			return fmt.Errorf("without a database: %w", err)
		}
		if err := cluster.Restart(t.Context()); err != nil {
			return err
		}
		return c.awaitCaughtUp(t.Context())
	})
}

const (
	budgetBytes = 8 << 20 // for the server before a black hole, so that the log is soon larger
	// residentBytes is what docs/runbook.md names as the memory that a server with this budget needs.
	residentBytes = budgetBytes + 2<<26 + 512<<20
)

// requireBounded holds the server to its memory while it keeps what the database does not take.
func (c *campaign) requireBounded(ctx context.Context) error {
	budgets, err := c.MetricBy(ctx, "ingestor_slab_budget_bytes", "pool")
	if err != nil {
		return err
	}
	pools, err := c.MetricBy(ctx, "ingestor_slab_used_bytes", "pool")
	if err != nil {
		return err
	}
	for pool, used := range pools {
		if used > budgets[pool] {
			return fmt.Errorf("%.0f bytes of the pool %s are used, its budget is %.0f", used, pool, budgets[pool])
		}
	}
	usage, err := c.Usage()
	if err == nil && usage.RSSPeakBytes > residentBytes {
		err = fmt.Errorf("%d bytes of memory at the most, %d are allowed", usage.RSSPeakBytes, residentBytes)
	}
	return err
}

// TestADatabaseThatNeverAnswers puts a black hole in the database's place, until the log holds more than the server may keep in memory. Once
// the server is also restarted, and once drained, while nothing answers. In the end the connections that hang go on, or break.
func TestADatabaseThatNeverAnswers(t *testing.T) {
	t.Parallel()
	run := crashlevel.Start(t, "database faults", "black holes", packagePath)
	dsn := pgtest.Database(t)
	p := startProxy(t, dsn)
	config := withDatabase(p.DSN())
	config["memtable"] = map[string]any{"generation_bytes": "1MiB", "generation_age": "500ms", "budget_bytes": "8MiB"}
	c := start(t, run, dsn, serverproc.Options{Config: config})
	c.rate = 3 * batchesPerSecond
	hold := func() error {
		before, err := c.Metric(t.Context(), "ingestor_wal_size_bytes")
		if err != nil {
			return err
		}
		p.Hold()
		err = c.Await(func() (bool, error) {
			size, err := c.Metric(t.Context(), "ingestor_wal_size_bytes")
			return size > before+2*budgetBytes, err
		})
		if err != nil {
			return fmt.Errorf("in a black hole: %w", err)
		}
		return c.requireBounded(t.Context())
	}
	c.rounds(run, crashlevel.Pick(t, 1, 3, 60), c.alone, func(i int) error {
		if err := hold(); err != nil {
			return err
		}
		switch i % 3 {
		case 0: // the connections break
			p.Drop()
		case 1: // the server is killed, and starts before a database that does not answer
			if err := c.AwaitAcks(uint64(1 + c.Rng.IntN(40))); err != nil {
				return err
			}
			if err := c.kill(t.Context()); err != nil {
				return err
			}
			if err := c.Restart(t.Context()); err != nil {
				return fmt.Errorf("start in a black hole: %w", err)
			}
			if err := c.AwaitAcks(50); err != nil {
				return err
			}
		}
		p.Resume()
		return c.awaitCaughtUp(t.Context())
	})
}

const (
	drainTimeout = 2 * time.Second // the database takes no more, however long it is
	// drainSlack is far more than a stop takes after that, and less than the database's driver waits for an answer to its goodbye.
	drainSlack = 12 * time.Second
)

// TestWhatTheDatabaseLacksIsInTheLog stops a server in order while its database does not answer: acked = stored + pending, by identity.
func TestWhatTheDatabaseLacksIsInTheLog(t *testing.T) {
	t.Parallel()
	run := crashlevel.Start(t, "database faults", "drains", packagePath)
	dsn := pgtest.Database(t)
	p := startProxy(t, dsn)
	patient, hasty := withDatabase(p.DSN()), withDatabase(p.DSN())
	hasty["drain"] = map[string]any{"timeout": drainTimeout.String()}
	c := start(t, run, dsn, serverproc.Options{Config: hasty})
	for i := range crashlevel.Pick(t, 1, 2, 40) {
		if i > 0 {
			require.NoError(t, c.RestartWith(t.Context(), hasty))
		}
		err := c.During(t.Context(), c.rate, func() error {
			p.Hold()
			return c.AwaitAcks(uint64(50 + c.Rng.IntN(500)))
		})
		require.NoError(t, err)
		flushed, pending, err := c.position(t.Context(), database)
		require.NoError(t, err)
		require.Positive(t, pending)
		position := flushed + pending
		began := time.Now()
		require.NoError(t, c.Drain(t.Context()))
		took := time.Since(began)
		t.Logf("drained in %s", took)
		require.Less(t, took, drainTimeout+drainSlack, "a database that does not answer must not keep the server from stopping")
		require.NoError(t, checkpointFits(t.Context(), dsn))
		report, err := verify.Postgres(t.Context(), dsn, c.Ledgers()...)
		require.NoError(t, err)
		t.Log(report)
		require.Positive(t, report.Missing, "the black hole has kept nothing back")
		require.LessOrEqual(t, float64(report.Rows+report.Missing), position, "acked = stored + pending")
		require.LessOrEqual(t, position, float64(report.Sent))
		report.Missing = 0
		require.True(t, report.OK(), "%s\n%+v", report, report.Examples)

		p.Drop()
		p.Resume()
		require.NoError(t, c.RestartWith(t.Context(), patient))
		require.NoError(t, c.awaitCaughtUp(t.Context()))
		require.NoError(t, c.DrainAndJudge(t.Context()))
		run.Explored(1)
	}
}

// withParameter returns a DSN, a URL, with one of the server's run-time parameters more.
func withParameter(t *testing.T, dsn, name, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}

// TestTheTimeLimitsOfTheDatabase: a lock that is held for longer than the sink may wait, and rows so slow that a generation is too much for one
// statement. The sink must go on with less at a time, and with all of it when the cause is gone.
func TestTheTimeLimitsOfTheDatabase(t *testing.T) {
	t.Parallel()
	run := crashlevel.Start(t, "database faults", "time limits", packagePath)
	dsn := pgtest.Database(t)
	config := withDatabase(withParameter(t, withParameter(t, dsn, "lock_timeout", "200"), "statement_timeout", "1000"))
	config["memtable"] = map[string]any{"generation_bytes": "4MiB", "generation_age": "1s", "budget_bytes": "32MiB"}
	c := start(t, run, dsn, serverproc.Options{Config: withDatabase(dsn)}) // whose migrations take their time
	require.NoError(t, c.Drain(t.Context()))
	require.NoError(t, c.RestartWith(t.Context(), config))
	faults := []func() error{func() error { return c.lockTable(t.Context()) }, func() error { return c.slowRows(t.Context()) }}
	c.rounds(run, crashlevel.Pick(t, 2, 2, 60), c.alone, func(i int) error {
		if err := faults[i%len(faults)](); err != nil {
			return err
		}
		return c.awaitCaughtUp(t.Context())
	})
}

// lockTable holds a lock until the sink has failed at it.
func (c *campaign) lockTable(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, c.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }() // which lets go of the lock
	if _, err := conn.Exec(ctx, "BEGIN; LOCK TABLE ingestor.records IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	return c.awaitFailures(ctx, 2)
}

// slowRows makes each row take a millisecond until the sink has failed at a statement, and has then stored something all the same.
func (c *campaign) slowRows(ctx context.Context) error {
	err := exec(ctx, c.dsn,
		`CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0005); RETURN NEW; END'`,
		`CREATE TRIGGER slow BEFORE INSERT ON ingestor.records FOR EACH ROW EXECUTE FUNCTION slow()`)
	if err != nil {
		return err
	}
	if err := c.awaitFailures(ctx, 1); err != nil {
		return err
	}
	flushed, _, err := c.position(ctx, database)
	if err != nil {
		return err
	}
	err = c.Await(func() (bool, error) {
		now, _, err := c.position(ctx, database)
		return now > flushed, err
	})
	if err != nil {
		return fmt.Errorf("nothing is stored within the time limit: %w", err)
	}
	return exec(ctx, c.dsn, `DROP TRIGGER slow ON ingestor.records`)
}
