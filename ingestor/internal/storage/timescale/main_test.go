package timescale

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite{Tests: m}) }

// open returns a database that is closed after the test.
func open(t testing.TB, config Config) *Database {
	t.Helper()
	db, err := Open(t.Context(), config, Options{
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// prepared returns an up-to-date database of the test's own.
func prepared(t testing.TB) *Database {
	t.Helper()
	db := open(t, Config{DSN: pgtest.Database(t)})
	require.NoError(t, db.Prepare(t.Context()))
	return db
}

// connect returns a connection beside those of a Database.
func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may have been killed
	return conn
}

func count(t testing.TB, db *Database, sql string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, db.pool.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

func execute(t testing.TB, db *Database, sql string) {
	t.Helper()
	_, err := db.pool.Exec(t.Context(), sql)
	require.NoError(t, err)
}
