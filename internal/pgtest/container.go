package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

const (
	defaultImage  = "timescale/timescaledb:latest-pg16"
	dockerTimeout = 10 * time.Second
	pullTimeout   = 3 * time.Minute
)

// containerScript works in any image that holds PostgreSQL, whatever its entry point: it makes the cluster at the first
// start and only runs it at the next.
const containerScript = `set -e
PATH="$PATH:/usr/local/bin:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')"
export PGDATA=/tmp/pgtest-data
test -e "$PGDATA/PG_VERSION" || {
  initdb --username postgres --auth trust --encoding UTF8 --locale C --no-sync
  echo "host all all all trust" >> "$PGDATA/pg_hba.conf"
}
rm -f "$PGDATA/postmaster.pid"
exec postgres -c listen_addresses='*' -c max_connections=100 -c unix_socket_directories=/tmp`

// containerImage returns the image to run; false where Docker does not answer or the image cannot be had in time.
func containerImage(ctx context.Context) (string, bool) {
	image := os.Getenv(EnvImage)
	if image == "" {
		image = defaultImage
	}
	if _, err := docker(ctx, dockerTimeout, "info", "--format", "{{.ServerVersion}}"); err != nil {
		return "", false
	}
	if _, err := docker(ctx, dockerTimeout, "image", "inspect", image); err == nil {
		return image, true
	}
	_, err := docker(ctx, pullTimeout, "pull", "--quiet", image)
	return image, err == nil
}

// container runs an image through the docker command. Port is the host's, the same over restarts.
type container struct {
	image string
	port  int
	id    string
}

func newContainer(image string, port int) *container { return &container{image: image, port: port} }

func (c *container) start(ctx context.Context) error {
	if c.id != "" {
		_, err := docker(ctx, readyTimeout, "start", c.id)
		return err
	}
	id, err := docker(ctx, readyTimeout, "run", "--detach", "--label", "ingestor.pgtest", "--user", "postgres",
		"--shm-size", "256m", "--publish", "127.0.0.1:"+strconv.Itoa(c.port)+":5432",
		"--entrypoint", "/bin/sh", c.image, "-c", containerScript)
	c.id = id
	return err
}

// kill returns when the container's processes are gone: the daemon ends all of them with the first.
func (c *container) kill(ctx context.Context) error { return c.signal(ctx, "KILL") }

// abort signals the postmaster, which is the container's first process.
func (c *container) abort(ctx context.Context) error { return c.signal(ctx, "QUIT") }

func (c *container) signal(ctx context.Context, name string) error {
	if _, err := docker(ctx, dockerTimeout, "kill", "--signal", name, c.id); err != nil {
		return err
	}
	_, err := docker(ctx, dockerTimeout, "wait", c.id)
	return err
}

func (c *container) stop() error {
	if c.id == "" {
		return nil
	}
	// The caller's context may have ended, the container must not stay.
	_, err := docker(context.Background(), dockerTimeout, "rm", "--force", "--volumes", c.id)
	return err
}

// docker runs the command and returns its trimmed output.
func docker(ctx context.Context, timeout time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("pgtest: docker %s: %w: %s", args[0], errors.Join(err, ctx.Err()), bytes.TrimSpace(stderr.Bytes()))
	}
	return string(bytes.TrimSpace(stdout.Bytes())), nil
}
