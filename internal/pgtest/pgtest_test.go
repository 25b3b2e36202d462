package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite{Tests: m}) }

func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	var value string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&value))
	return value
}

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	a, b := pgtest.Database(t), pgtest.Database(t)
	require.NotEqual(t, query(t, a, "SELECT current_database()"), query(t, b, "SELECT current_database()"))
}

func TestKillAbortAndRestartKeepCommittedRowsAndTheDSN(t *testing.T) {
	cluster, dsn := pgtest.Private(t)
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "CREATE TABLE t AS SELECT 'kept' AS v")
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "BEGIN")
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "INSERT INTO t VALUES ('lost')")
	require.NoError(t, err)

	for _, end := range []func(context.Context) error{cluster.Kill, cluster.Abort} {
		require.NoError(t, end(ctx))
		require.Error(t, conn.Ping(ctx))
		require.NoError(t, conn.Close(ctx))
		_, err = pgx.Connect(ctx, dsn)
		require.Error(t, err, "nothing listens any more")

		require.NoError(t, cluster.Restart(ctx))
		require.Equal(t, "kept", query(t, dsn, "SELECT string_agg(v, ',') FROM t"))
		conn, err = pgx.Connect(ctx, dsn)
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close(ctx))
}

func TestBorrowedServerIsNotKilled(t *testing.T) {
	owner, dsn := pgtest.Private(t)
	t.Setenv(pgtest.EnvDSN, dsn)
	borrowed, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, borrowed.Kill(t.Context()), pgtest.ErrNotOwned)
	require.ErrorIs(t, borrowed.Abort(t.Context()), pgtest.ErrNotOwned)
	require.ErrorIs(t, borrowed.Restart(t.Context()), pgtest.ErrNotOwned)
	require.NoError(t, borrowed.Stop())
	require.NoError(t, owner.Kill(t.Context()), "it was still running")
}
