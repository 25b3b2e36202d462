// Package containers runs the crash tests against the server's container image, and checks the compose files.
//
// The tests need a Docker engine that answers; without one they are skipped by name, but never where CI is set. The server's image
// is made from the built binary and pulls nothing. The database's image is INGESTOR_TEST_PG_IMAGE, by default the public
// TimescaleDB image; any image with PostgreSQL's binaries and a user postgres will do.
package containers
