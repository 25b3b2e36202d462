// Package containers runs the crash tests against the server's container image, and checks the compose files.
//
// Containers of the server and of its database are killed in turn; the kernel kills the server for its memory, and must not where it has what
// docs/runbook.md says; the database's disk is full. After each of them both sinks are judged by identity. What needs no container is in
// package around.
//
// The tests need a Docker engine that answers; without one they are skipped by name, but never where CI is set. The server's image
// is made from the built binary and pulls nothing. The database's image is INGESTOR_TEST_PG_IMAGE, by default the public
// TimescaleDB image; any image with PostgreSQL's binaries and a user postgres will do.
package containers
