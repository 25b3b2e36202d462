package containers

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// initAndServe makes a cluster at the first start; PATH covers Debian's packages and the public images.
const initAndServe = `set -e
export PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':') PGDATA=${DATA:-/var/lib/postgresql/test}
if [ ! -s $PGDATA/PG_VERSION ]; then
  echo "$PASSWORD" > /tmp/password
  initdb --username=ingestor --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C
  echo "host all all all scram-sha-256" >> $PGDATA/pg_hba.conf
fi
exec postgres -c "listen_addresses=*" -c unix_socket_directories=/tmp $OPTIONS`

// databaseContainer is a PostgreSQL server.
type databaseContainer struct {
	testcontainers.Container
	dsn, insideDSN string // for the host, and for other containers
}

// databaseName is how other containers of the network find it.
const databaseName = "database"

// startDatabase starts one in a network. env is added to its environment, and binds to its mounts.
func startDatabase(t *testing.T, network string, env map[string]string, binds ...string) *databaseContainer {
	t.Helper()
	image := os.Getenv("INGESTOR_TEST_PG_IMAGE")
	if image == "" {
		image = "timescale/timescaledb:latest-pg17"
	}
	var random [16]byte
	_, _ = rand.Read(random[:])
	password, port := hex.EncodeToString(random[:]), freePort(t)
	environment := map[string]string{"PASSWORD": password}
	maps.Copy(environment, env)
	request := testcontainers.ContainerRequest{
		Image: image, User: "postgres", Entrypoint: []string{"sh", "-c", initAndServe}, Env: environment,
		ExposedPorts: []string{"5432/tcp"}, Networks: []string{network}, NetworkAliases: map[string][]string{network: {databaseName}},
		HostConfigModifier: func(h *container.HostConfig) {
			pin(map[string]string{"5432/tcp": port})(h)
			h.Binds = binds
		},
		WaitingFor: wait.ForLog("ready to accept connections").WithStartupTimeout(2 * time.Minute),
	}
	d := &databaseContainer{Container: run(t, request)}
	const form = "postgres://ingestor:%s@%s/postgres"
	d.dsn, d.insideDSN = fmt.Sprintf(form, password, "127.0.0.1:"+port), fmt.Sprintf(form, password, databaseName)
	return d
}
