package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
)

// TB is the part of testing.TB that this package needs.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Logf(format string, args ...any)
}

// shared is the one server of a test binary, started by the first Database.
var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error // the first failure, so that each test does not try again
}

// Suite is a testing.M that stops the shared server after the last test.
type Suite struct {
	// Tests is the *testing.M.
	Tests interface{ Run() int }
}

// Run runs the tests and returns their exit code.
func (s Suite) Run() int {
	code := s.Tests.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		return code
	}
	if err := shared.cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Database returns the DSN of an empty database of the shared server; it is dropped after the test.
func Database(t TB) string {
	t.Helper()
	cluster := sharedCluster(t)
	return newDatabase(t, cluster)
}

// Private returns a server that the test may kill, and the DSN of an empty database on it. It is the shared server, where
// that is ours to kill, so the test must not run in parallel with others. A server that is down is restarted after the test.
func Private(t TB) (*Cluster, string) {
	t.Helper()
	cluster := sharedCluster(t)
	if !cluster.Owned() {
		cluster = startPrivate(t)
	}
	dsn := newDatabase(t, cluster)
	t.Cleanup(func() {
		if !cluster.down {
			return
		}
		if err := cluster.Restart(context.Background()); err != nil {
			t.Fatalf("restart PostgreSQL: %v", err)
		}
	})
	return cluster, dsn
}

// startPrivate starts a server that ends with the test.
func startPrivate(t TB) *Cluster {
	t.Helper()
	cluster, err := StartPrivate(context.Background())
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Logf("stop PostgreSQL: %v", err)
		}
	})
	return cluster
}

func sharedCluster(t TB) *Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = Start(context.Background())
		if shared.err == nil {
			t.Logf("PostgreSQL: %s", shared.cluster.Source)
		}
	}
	if shared.err != nil {
		unavailable(t, shared.err)
	}
	return shared.cluster
}

func newDatabase(t TB, cluster *Cluster) string {
	t.Helper()
	name := databaseName()
	dsn, err := cluster.CreateDatabase(context.Background(), name)
	if err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		if err := cluster.DropDatabase(context.Background(), name); err != nil {
			t.Fatalf("drop the database: %v", err)
		}
	})
	return dsn
}

func databaseName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return "pgtest_" + hex.EncodeToString(b[:])
}

// unavailable ends the test: a missing server is a skip outside CI; a server that is there and does not start is a
// failure.
func unavailable(t TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNone) && os.Getenv("CI") != "true" {
		t.Skipf("needs PostgreSQL: %v", err)
	}
	t.Fatalf("PostgreSQL: %v", err)
}
