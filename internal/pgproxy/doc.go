// Package pgproxy stands between a program and its PostgreSQL server, passes the wire protocol on, and breaks it where a test says.
//
// A Fault cuts the connection of one transaction at a point that no other tool can reach: before the server has the COMMIT, after the
// server has committed and before the client knows, or in the middle of a COPY. It may be bound to transactions that copy into one
// table, so that it hits the data and not some housekeeping beside it. Hold makes the server a black hole: connections are accepted,
// nothing is answered.
//
// The proxy reads what it needs of the protocol of version 3 (PostgreSQL documentation, chapter "Frontend/Backend Protocol"): messages
// are one byte of type, four of length that count themselves, and a body. It refuses TLS, so the DSN must allow plain text. It knows the
// simple query protocol, in which pgx sends BEGIN, COMMIT and COPY.
//
// Goroutines: Start makes one that accepts, and each connection has two. Close ends and joins them all.
package pgproxy
