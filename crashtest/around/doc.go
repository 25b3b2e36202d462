// Package around breaks what stands around the server's process, under the load and before the judge of package crashtest:
//
//   - its database: connections cut before COMMIT, between COMMIT and its answer, and in COPY (internal/pgproxy); immediate shutdowns; time
//     limits and locks; a server that takes connections and answers nothing
//   - its clock: it jumps by hours and weeks, forward and back, also across a kill -9 (crashtest/clockjump)
//
// Package containers has the rest of the layer, which needs Docker. Here a PostgreSQL server is enough, as internal/pgtest finds it.
//
// After each fault a query compares the checkpoint row with the rows in one snapshot, and at the end both sinks are judged by identity.
package around
