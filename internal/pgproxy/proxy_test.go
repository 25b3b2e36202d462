package pgproxy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/internal/pgproxy"
	"github.com/ingestor-project/ingestor/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite{Tests: m}) }

func start(t *testing.T) (p *pgproxy.Proxy, direct *pgx.Conn) {
	t.Helper()
	dsn := pgtest.Database(t)
	p, err := pgproxy.Start(dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	direct = connect(t, dsn)
	_, err = direct.Exec(t.Context(), "CREATE TABLE a (v text); CREATE TABLE b (v text)")
	require.NoError(t, err)
	return p, direct
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // it may be cut already
	return conn
}

// copyInto copies rows of 100 bytes in a transaction, on a connection of its own.
func copyInto(t *testing.T, dsn, table string, rows int) error {
	t.Helper()
	conn := connect(t, dsn)
	return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		text := strings.Repeat(strings.Repeat("x", 99)+"\n", rows)
		_, err := tx.Conn().PgConn().CopyFrom(t.Context(), strings.NewReader(text), "COPY "+table+" FROM STDIN")
		return err
	})
}

func count(t *testing.T, conn *pgx.Conn, table string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// await returns when a fault has happened. The client may learn of it a little earlier.
func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal("the fault has not happened")
	}
}

func happened(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAFaultHitsTheTransactionThatIsMeant(t *testing.T) {
	for point, stored := range map[pgproxy.Point]int{pgproxy.BeforeCommit: 0, pgproxy.AfterCommit: 10, pgproxy.InCopy: 0} {
		t.Run(point.String(), func(t *testing.T) {
			p, direct := start(t)
			done := p.Arm(pgproxy.Fault{Point: point, Table: "b", Skip: 1, CopyBytes: 450})
			require.NoError(t, copyInto(t, p.DSN(), "a", 10), "another table")
			require.NoError(t, copyInto(t, p.DSN(), "b", 10), "skipped")
			require.False(t, happened(done))
			require.Error(t, copyInto(t, p.DSN(), "b", 10))
			await(t, done)
			require.Equal(t, 10+stored, count(t, direct, "b"))
			require.NoError(t, copyInto(t, p.DSN(), "b", 10), "it happens once")
		})
	}
}

func TestACopyWithTooFewBytesIsNoOccasion(t *testing.T) {
	p, direct := start(t)
	done := p.Arm(pgproxy.Fault{Point: pgproxy.InCopy, Table: "a", CopyBytes: 1000})
	require.NoError(t, copyInto(t, p.DSN(), "a", 10))
	require.False(t, happened(done))
	require.Error(t, copyInto(t, p.DSN(), "a", 11))
	await(t, done)
	require.Equal(t, 10, count(t, direct, "a"))
}

// A COMMIT that the server answers with an error, here because of a deferred constraint, has not committed: the fault waits for one that has.
func TestARefusedCommitIsNoOccasion(t *testing.T) {
	p, direct := start(t)
	_, err := direct.Exec(t.Context(), "CREATE TABLE c (v text UNIQUE DEFERRABLE INITIALLY DEFERRED)")
	require.NoError(t, err)
	done := p.Arm(pgproxy.Fault{Point: pgproxy.AfterCommit, Table: "c"})
	require.ErrorContains(t, copyInto(t, p.DSN(), "c", 2), "duplicate key")
	require.False(t, happened(done))
	require.Error(t, copyInto(t, p.DSN(), "c", 1))
	await(t, done)
	require.Equal(t, 1, count(t, direct, "c"))
}

func TestHoldAnswersNothingUntilResume(t *testing.T) {
	p, _ := start(t)
	old := connect(t, p.DSN())
	p.Hold()
	answered := make(chan error, 2)
	go func() { answered <- old.Ping(t.Context()) }()
	go func() {
		conn, err := pgx.Connect(t.Context(), p.DSN())
		if err == nil {
			err = conn.Close(t.Context())
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("answered: %v", err)
	case <-time.After(100 * time.Millisecond): // that nothing comes can only be seen by waiting
	}
	p.Resume()
	require.NoError(t, <-answered)
	require.NoError(t, <-answered)
}

func TestDropEndsWhatIsHeld(t *testing.T) {
	p, _ := start(t)
	conn := connect(t, p.DSN())
	p.Hold()
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	p.Drop()
	require.Error(t, <-answered)
	p.Resume()
	require.NoError(t, connect(t, p.DSN()).Ping(t.Context()))
}
