package containers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/stretchr/testify/require"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/ingestor-project/ingestor/crashtest/acks"
	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/verify"
)

const kills = 5

// underLoad runs fn while a client sends, and returns the ledger's path. The client reconnects and sends again until everything is settled.
// work lets the containers run until more batches were acked, and for a random time more.
func underLoad(t *testing.T, s *serverContainer, fn func(work func())) string {
	t.Helper()
	config := engine.Config{
		Target: s.address, Tenants: []engine.Tenant{{ID: "dev", APIKey: s.apiKey}}, Endpoints: []string{"orders", "clicks"},
		BatchRecords: 100, InFlight: 8, RetryFor: 2 * time.Minute, Epoch: 1,
		Phases: []engine.Phase{{Name: "until stopped", Duration: time.Hour}},
	}
	_, _ = rand.Read(config.RunID[:])
	path := filepath.Join(t.TempDir(), "ledger")
	writer, err := ledger.Create(path, config.LedgerHeader())
	require.NoError(t, err)
	config.Ledger = writer

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var result *engine.Result
	go func() {
		var err error
		result, err = engine.Run(ctx, config)
		done <- err
	}()
	fn(func() {
		awaitAck(t, path, writer)
		pause(t)
	})
	stop()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, writer.Close())
	require.Positive(t, result.Measured.Acked.Batches, "a crash without load proves nothing")
	require.Empty(t, result.LaneErrors)
	t.Logf("%d batches acked, %d sent again", result.Measured.Acked.Batches, result.Measured.Resent.Batches)
	return path
}

// awaitAck returns when one more batch was acked.
func awaitAck(t *testing.T, path string, writer *ledger.Writer) {
	t.Helper()
	before, err := acks.Count(path, writer)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		acked, err := acks.Count(path, writer)
		return err == nil && acked > before
	}, 2*time.Minute, 20*time.Millisecond, "nothing is acked")
}

// pause makes the moment of the next blow random.
func pause(t *testing.T) {
	timer := time.NewTimer(mrand.N(400 * time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

func requireGood(t *testing.T, report *verify.Report, err error) {
	t.Helper()
	require.NoError(t, err)
	t.Log(report)
	require.True(t, report.OK(), "%s\n%+v", report, report.Examples)
	require.Positive(t, report.Rows)
}

func TestKilledServerLosesNothing(t *testing.T) {
	requireDocker(t)
	s := startServer(t)
	ledger := underLoad(t, s, func(work func()) {
		for range kills {
			work()
			kill(t, s)
			startAgain(t, s)
		}
	})
	s.drain(t)
	report, err := verify.Parquet(t.Context(), s.dataDir, ledger)
	requireGood(t, report, err)
}

func TestKilledDatabaseLosesNothing(t *testing.T) {
	requireDocker(t)
	database, dsn, insideDSN := startDatabase(t)
	s := startServer(t, "--timescale.dsn="+insideDSN)
	ledger := underLoad(t, s, func(work func()) {
		for range kills {
			work()
			kill(t, database)
			work() // the server goes on without its database
			startAgain(t, database)
		}
	})
	s.drain(t)
	report, err := verify.Parquet(t.Context(), s.dataDir, ledger)
	requireGood(t, report, err)
	report, err = verify.Postgres(t.Context(), dsn, ledger)
	requireGood(t, report, err)
}

// initAndServe makes a cluster at the first start; PATH covers Debian's packages and the public images.
const initAndServe = `set -e
export PATH=$PATH:/usr/lib/postgresql/15/bin PGDATA=/var/lib/postgresql/test
if [ ! -s $PGDATA/PG_VERSION ]; then
  echo "$PASSWORD" > /tmp/password
  initdb --username=ingestor --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C
  echo "host all all all scram-sha-256" >> $PGDATA/pg_hba.conf
fi
exec postgres -c "listen_addresses=*" -c unix_socket_directories=/tmp`

// startDatabase returns the DSN for the host and the one for other containers.
func startDatabase(t *testing.T) (c testcontainers.Container, dsn, insideDSN string) {
	t.Helper()
	image := os.Getenv("INGESTOR_TEST_PG_IMAGE")
	if image == "" {
		image = "timescale/timescaledb:latest-pg17"
	}
	var random [16]byte
	_, _ = rand.Read(random[:])
	password, port := hex.EncodeToString(random[:]), freePort(t)
	c = run(t, testcontainers.ContainerRequest{
		Image: image, User: "postgres", Entrypoint: []string{"sh", "-c", initAndServe}, Env: map[string]string{"PASSWORD": password},
		ExposedPorts:       []string{"5432/tcp"},
		HostConfigModifier: func(h *container.HostConfig) { pin(map[string]string{"5432/tcp": port})(h) },
		WaitingFor:         wait.ForLog("ready to accept connections").WithStartupTimeout(2 * time.Minute),
	})
	address, err := c.ContainerIP(t.Context())
	require.NoError(t, err)
	const form = "postgres://ingestor:%s@%s/postgres"
	return c, fmt.Sprintf(form, password, "127.0.0.1:"+port), fmt.Sprintf(form, password, address+":5432")
}
