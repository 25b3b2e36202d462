package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Environment variables that choose the server.
const (
	EnvDSN   = "INGESTOR_TEST_DSN"
	EnvImage = "INGESTOR_TEST_PG_IMAGE"
)

var (
	// ErrNone is returned by Start where no PostgreSQL can be had on this machine.
	ErrNone = errors.New("pgtest: no PostgreSQL: set " + EnvDSN + ", start Docker, or install postgresql")
	// ErrNotOwned is returned by Kill, Abort and Restart for a server that the caller only borrowed.
	ErrNotOwned = errors.New("pgtest: the server of " + EnvDSN + " is not ours to kill")
)

// readyTimeout bounds the wait for a started server to answer.
const readyTimeout = 60 * time.Second

// Cluster is one PostgreSQL server. Its methods must not be called at the same time, DSN and CreateDatabase excepted.
type Cluster struct {
	// Source says where the server came from, for log lines.
	Source string

	dsn    string
	server server // nil for a borrowed one
	down   bool   // between Kill or Abort and Restart
}

// server is a way to run PostgreSQL.
type server interface {
	// start returns when the server process runs; it need not answer yet.
	start(ctx context.Context) error
	// kill ends every process of the server with SIGKILL and returns when they are gone. The files stay.
	kill(ctx context.Context) error
	// abort makes the server shut down in PostgreSQL's immediate mode and returns when it has ended. The files stay.
	abort(ctx context.Context) error
	// stop ends the server and removes its files.
	stop() error
}

// Start returns a server by the order of the package comment. The caller must Stop it. ErrNone: there is none here.
func Start(ctx context.Context) (*Cluster, error) {
	if dsn := os.Getenv(EnvDSN); dsn != "" {
		c := &Cluster{Source: "the DSN in " + EnvDSN, dsn: dsn}
		return c, c.waitReady(ctx)
	}
	return StartPrivate(ctx)
}

// StartPrivate is Start without the borrowed server, so that Kill and Restart work.
func StartPrivate(ctx context.Context) (*Cluster, error) {
	if image, ok := containerImage(ctx); ok {
		return startWith(ctx, "a container of "+image, func(port int) (server, error) {
			return newContainer(image, port), nil
		})
	}
	bin, ok := findBinaries()
	if !ok {
		return nil, ErrNone
	}
	return startWith(ctx, "a temporary cluster of "+bin, func(port int) (server, error) {
		return newProcess(ctx, bin, port)
	})
}

// startWith starts a server on a free port. Another process may take the port in between, hence the attempts.
func startWith(ctx context.Context, source string, build func(port int) (server, error)) (*Cluster, error) {
	const attempts = 3
	var err error
	for range attempts {
		var port int
		if port, err = freePort(); err != nil {
			return nil, err
		}
		c := &Cluster{
			Source: source,
			dsn:    fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port),
		}
		if c.server, err = build(port); err != nil {
			return nil, err
		}
		if err = c.server.start(ctx); err == nil {
			err = c.waitReady(ctx)
		}
		if err == nil {
			return c, nil
		}
		err = errors.Join(err, c.Stop())
	}
	return nil, err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("pgtest: find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// DSN names the server's maintenance database, as a superuser. It stays the same over Kill and Restart.
func (c *Cluster) DSN() string { return c.dsn }

// Owned tells whether Kill and Restart are allowed.
func (c *Cluster) Owned() bool { return c.server != nil }

// Kill ends every process of the server with SIGKILL, and returns when they are gone.
func (c *Cluster) Kill(ctx context.Context) error {
	if !c.Owned() {
		return ErrNotOwned
	}
	c.down = true
	return c.server.kill(ctx)
}

// Abort has the server shut down at once (PostgreSQL's immediate mode): it tells its clients, writes nothing more and will recover at its
// next start. It returns when the server has ended.
func (c *Cluster) Abort(ctx context.Context) error {
	if !c.Owned() {
		return ErrNotOwned
	}
	c.down = true
	return c.server.abort(ctx)
}

// Restart starts the server again after Kill or Abort, on the same port, and returns when it has recovered.
func (c *Cluster) Restart(ctx context.Context) error {
	if !c.Owned() {
		return ErrNotOwned
	}
	if err := c.server.start(ctx); err != nil {
		return err
	}
	c.down = false
	return c.waitReady(ctx)
}

// Stop ends the server and removes its files; a borrowed server is left alone.
func (c *Cluster) Stop() error {
	if !c.Owned() {
		return nil
	}
	return c.server.stop()
}

// CreateDatabase makes an empty database and returns its DSN. It drops an older one of the same name.
func (c *Cluster) CreateDatabase(ctx context.Context, name string) (string, error) {
	if err := c.exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return "", err
	}
	if err := c.exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		return "", err
	}
	return withDatabase(c.dsn, name)
}

// DropDatabase removes a database and ends its connections.
func (c *Cluster) DropDatabase(ctx context.Context, name string) error {
	return c.exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
}

func (c *Cluster) exec(ctx context.Context, sql string) (err error) {
	conn, err := pgx.Connect(ctx, c.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// withDatabase returns dsn, in URL or keyword form, with another database.
func withDatabase(dsn, name string) (string, error) {
	if u, err := url.Parse(dsn); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		u.Path = "/" + name
		return u.String(), nil
	}
	// In the keyword form the last of two equal keywords counts.
	dsn += " dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(name) + "'"
	_, err := pgx.ParseConfig(dsn)
	return dsn, err
}

// waitReady connects until the server answers.
func (c *Cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("pgtest: %s does not answer: %w", c.Source, errors.Join(err, ctx.Err()))
		}
	}
}
