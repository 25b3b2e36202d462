package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
	"github.com/ingestor-project/ingestor/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite{Tests: m}) }

// withDatabase returns a service that writes to dsn. The test closes it.
func withDatabase(t *testing.T, dsn string, config Config) *Service {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	db, err := timescale.Open(t.Context(), timescale.Config{DSN: dsn}, timescale.Options{
		Logger: logger, Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	s, err := New(t.Context(), config, Dependencies{
		NewWriter: func() Writer { return timescale.NewMetricWriter(db) }, Logger: logger, Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	return s
}

func storedNames(t *testing.T, dsn string) map[string]int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	rows, err := conn.Query(t.Context(), "SELECT name, count(*) FROM ingestor.metrics GROUP BY name")
	require.NoError(t, err)
	names := map[string]int{}
	var name string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error { names[name] = n; return nil })
	require.NoError(t, err)
	return names
}

func TestMetricsReachTheDatabase(t *testing.T) {
	dsn := pgtest.Database(t)
	config := DefaultConfig()
	config.BatchSize = 50
	s := withDatabase(t, dsn, config)
	want := map[string]int{}
	var submitters sync.WaitGroup
	for service := range 10 {
		for i := range 40 {
			want[fmt.Sprint("m", service*100+i)] = 1
		}
		submitters.Go(func() {
			for i := range 40 {
				metrics := named(fmt.Sprint("service-", service), service*100+i, 1)
				metrics[0].TimeUnixNano, metrics[0].Type = time.Now().UnixNano(), timescale.Gauge
				receipt, err := s.Submit(metrics)
				if err != nil {
					t.Errorf("submit: %v", err)
				} else if i == 39 {
					if err := receipt.Wait(context.Background()); err != nil {
						t.Errorf("wait: %v", err)
					}
				}
			}
		})
	}
	submitters.Wait()
	require.Zero(t, closeService(t, s))
	require.Equal(t, want, storedNames(t, dsn))
}

// The database is killed again and again while metrics come in: each is stored once.
func TestMetricsOutliveTheDatabase(t *testing.T) {
	cluster, dsn := pgtest.Private(t)
	config := DefaultConfig()
	config.BatchSize, config.FlushInterval, config.RetryMax = 5, 5*time.Millisecond, 100*time.Millisecond
	s := withDatabase(t, dsn, config)
	want := map[string]int{}
	next := 0
	send := func(n int) (last *Receipt) {
		for range n {
			metrics := named(fmt.Sprint("service-", next%7), next, 1)
			metrics[0].TimeUnixNano, metrics[0].Type = time.Now().UnixNano(), timescale.Counter
			want[metrics[0].Name] = 1
			last = submit(t, s, metrics)
			next++
		}
		return last
	}
	for range 3 {
		require.NoError(t, send(200).Wait(t.Context()))
		send(200)
		require.NoError(t, cluster.Kill(t.Context()))
		send(200)
		require.NoError(t, cluster.Restart(t.Context()))
	}
	require.Zero(t, closeService(t, s))
	require.Equal(t, want, storedNames(t, dsn))
	requireConserved(t, s)
}
