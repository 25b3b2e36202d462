// Package pgtest provides a PostgreSQL server to tests and to the load and crash harnesses.
//
// Start looks for one in this order:
//
//  1. the server that the DSN in INGESTOR_TEST_DSN names; it is used as it is and never stopped or killed;
//  2. a container of the image INGESTOR_TEST_PG_IMAGE (default: the public TimescaleDB image), where a Docker daemon
//     answers and the image is present or can be pulled within a bounded time;
//  3. a temporary cluster made with the postgres binaries of the machine (Debian's /usr/lib/postgresql/*/bin, or
//     those on the PATH).
//
// Where there is none of them it returns ErrNone. StartPrivate leaves the first step out: a test that kills its server
// must own it.
//
// A temporary cluster lives in a temporary directory, listens on the loopback interface with trust authentication, and
// dies with the process that started it. PostgreSQL refuses to run as root, so root drops to the user postgres, or
// nobody.
//
// Tests call Database, which gives each of them an empty database of its own on one server a test binary. That server
// is stopped by Suite, which wraps testing.M:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite{Tests: m}) }
//
// Where no server can be had, Database skips the test by name, and fails it when CI=true. The package imports no part
// of testing, so that programs may use it.
package pgtest
