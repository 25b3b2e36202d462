package timescale

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/pgtest"
)

func TestServersMigrateAtTheSameTime(t *testing.T) {
	dsn := pgtest.Database(t)
	var servers sync.WaitGroup
	for range 4 {
		db := open(t, Config{DSN: dsn, MaxConnections: 4})
		servers.Go(func() {
			if err := db.Prepare(context.WithoutCancel(t.Context())); err != nil {
				t.Errorf("prepare: %v", err)
			}
		})
	}
	servers.Wait()
	db := open(t, Config{DSN: dsn})
	require.NoError(t, db.Prepare(t.Context()))
	require.Equal(t, 4, count(t, db, "SELECT count(*) FROM ingestor.schema_migrations WHERE version_id > 0"))
	for _, table := range []string{"records", "metrics", "sink_checkpoints", "metric_checkpoints", "dead_letters", "gaps"} {
		require.Zero(t, count(t, db, "SELECT count(*) FROM ingestor."+table), table)
	}
}

func TestFeaturesSayWhatTheTablesAre(t *testing.T) {
	db := prepared(t)
	f, ready := db.Features()
	require.True(t, ready)
	require.NotEmpty(t, f.Server)
	extension := count(t, db, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'") == 1
	require.Equal(t, extension, f.Timescale != "")
	require.Equal(t, extension, f.Hypertables)
}

func TestSchemaOfANewerServerIsRefused(t *testing.T) {
	dsn := pgtest.Database(t)
	db := open(t, Config{DSN: dsn})
	require.NoError(t, db.Prepare(t.Context()))
	execute(t, db, "INSERT INTO ingestor.schema_migrations (version_id, is_applied) VALUES (99, true)")
	require.ErrorContains(t, open(t, Config{DSN: dsn}).Prepare(t.Context()), "a newer server has migrated it")
}

func TestDatabaseThatIsNotUTF8IsRefused(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	name := conn.Config().Database + "_latin1"
	_, err := conn.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
	require.NoError(t, err)
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), dsn)
		if err == nil {
			_, err = conn.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
			_ = conn.Close(context.Background())
		}
		require.NoError(t, err)
	})
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Path = name
	require.ErrorContains(t, open(t, Config{DSN: u.String()}).Prepare(t.Context()), "LATIN1")
}

func TestThePasswordIsNeverShown(t *testing.T) {
	const secret = "s3cr3t%2Fpass"
	var log bytes.Buffer
	options := func() Options {
		return Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Registerer: prometheus.NewRegistry()}
	}
	shown := ""
	for _, dsn := range []string{
		"postgres://user:" + secret + "@127.0.0.1:1/db?sslmode=disable",
		"postgres://user:" + secret + "@127.0.0.1:notaport/db",
		"host=127.0.0.1 port=1 password='" + secret + "",
		"host=127.0.0.1 port=1 password=" + secret + " sslmode=nonsense",
	} {
		db, err := Open(t.Context(), Config{DSN: dsn}, options())
		if err == nil {
			err = db.Prepare(t.Context())
			db.Close()
		}
		require.Error(t, err)
		shown += err.Error()
	}
	require.NotContains(t, shown+log.String(), "s3cr3t")
}

func TestDSNFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dsn")
	require.NoError(t, os.WriteFile(path, []byte(pgtest.Database(t)+"\n"), 0o600))
	require.NoError(t, open(t, Config{DSNFile: path}).Prepare(t.Context()))

	_, err := Open(t.Context(), Config{DSNFile: path + ".missing"}, Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{
		{}, {DSN: "a", DSNFile: "b"}, {DSN: "a", MaxConnections: 1}, {DSN: "a", LockTimeout: -1}, {DSN: "a", TransactionRecords: -1},
	} {
		require.Error(t, c.Validate(), fmt.Sprintf("%+v", c))
	}
}

func TestRowsOfDistantDaysGoIntoTheDefaultPartition(t *testing.T) {
	db := prepared(t)
	requireNative(t, db)
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	db.partitions.now = func() time.Time { return now }
	metrics := someMetrics("billing", 4)
	for i, at := range []time.Time{now, now.AddDate(0, 0, -partitionDaysBack), now.AddDate(0, 0, -partitionDaysBack-1),
		time.Unix(0, 1).UTC()} {
		metrics[i].TimeUnixNano = at.UnixNano()
	}
	_, err := NewMetricWriter(db).Write(t.Context(), metrics)
	require.NoError(t, err)
	for i, want := range []string{"metrics_20260304", "metrics_20260202", "metrics_default", "metrics_default"} {
		require.Equal(t, 1, count(t, db,
			"SELECT count(*) FROM ingestor.metrics WHERE ts_unix_nano = $1 AND tableoid::regclass = $2::regclass",
			metrics[i].TimeUnixNano, "ingestor."+want), want)
	}
	// Today and the days ahead exist; no metric asked for those in between but the batch's range did.
	require.Equal(t, partitionDaysBack+1+partitionDaysAhead, countPartitions(t, db, "metrics_2"))
}

func TestDayThatTheDefaultPartitionHoldsStaysThere(t *testing.T) {
	db := prepared(t)
	requireNative(t, db)
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	db.partitions.now = func() time.Time { return now }
	w := NewMetricWriter(db)
	write := func(at time.Time) {
		m := someMetrics("billing", 1)
		m[0].TimeUnixNano = at.UnixNano()
		_, err := w.Write(t.Context(), m)
		require.NoError(t, err)
	}
	ahead := now.AddDate(0, 0, partitionDaysAhead+1)
	write(ahead) // beyond the days that are made
	now = ahead
	write(ahead.Add(time.Second))
	require.Equal(t, 2, count(t, db, "SELECT count(*) FROM ingestor.metrics_default"))
	require.Zero(t, countPartitions(t, db, "metrics_20260307"))
	require.Equal(t, 1, countPartitions(t, db, "metrics_20260308"), "the next day is made all the same")
}

func TestServersMakePartitionsAtTheSameTime(t *testing.T) {
	dsn := pgtest.Database(t)
	var servers sync.WaitGroup
	for range 4 {
		db := open(t, Config{DSN: dsn, MaxConnections: 2})
		require.NoError(t, db.Prepare(t.Context()))
		servers.Go(func() {
			now := time.Now().UnixNano()
			if err := db.partitions.ensure(context.WithoutCancel(t.Context()), "records", now, now); err != nil {
				t.Errorf("ensure: %v", err)
			}
		})
	}
	servers.Wait()
	db := open(t, Config{DSN: dsn})
	requireNative(t, db)
	require.Equal(t, 1+partitionDaysAhead, countPartitions(t, db, "records_2"))
}

func requireNative(t *testing.T, db *Database) {
	t.Helper()
	require.NoError(t, db.Prepare(t.Context()))
	if f, _ := db.Features(); f.Hypertables {
		t.Skip("the server has TimescaleDB: there are no native partitions")
	}
}

func countPartitions(t *testing.T, db *Database, prefix string) int {
	t.Helper()
	return count(t, db, `
		SELECT count(*) FROM pg_class
		WHERE relkind = 'r' AND relnamespace = 'ingestor'::regnamespace AND relname LIKE $1`, prefix+"%")
}

func TestDayOfRoundsDown(t *testing.T) {
	const d = int64(day)
	for unixNano, want := range map[int64]int64{0: 0, 1: 0, -1: -1, d - 1: 0, d: 1, -d: -1, -d - 1: -2} {
		require.Equal(t, want, dayOf(unixNano), unixNano)
	}
}

func TestAWaitForMigrationsEndsWithItsContext(t *testing.T) {
	dsn := pgtest.Database(t)
	_, err := connect(t, dsn).Exec(t.Context(), "SELECT pg_advisory_lock($1)", int64(migrationLock)) // a server that hangs
	require.NoError(t, err)
	db := open(t, Config{DSN: dsn})
	patient, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- db.Prepare(patient) }()
	waiting := func() bool { return len(db.preparing) == 1 }
	require.Eventually(t, waiting, 20*time.Second, time.Millisecond)

	hurried, cancelHurried := context.WithCancel(t.Context())
	cancelHurried()
	second := make(chan error, 1)
	go func() { second <- db.Prepare(hurried) }()
	require.ErrorIs(t, <-second, context.Canceled)
	cancel()
	require.Error(t, <-first)
}

func TestCommitsAreSynchronousWhateverTheDatabaseIsSetTo(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	_, err := conn.Exec(t.Context(), "ALTER DATABASE "+pgx.Identifier{conn.Config().Database}.Sanitize()+" SET synchronous_commit = off")
	require.NoError(t, err)
	db := open(t, Config{DSN: dsn})
	var setting string
	require.NoError(t, db.pool.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&setting))
	require.Equal(t, "on", setting)
}
