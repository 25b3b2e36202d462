// Package serverproc runs the built server as a process of its own, the way a user runs it, and gives a test or a
// benchmark the handles it needs: where it listens, SIGKILL and SIGTERM, a restart on the same data, its exit code, its
// stage histograms, its metrics page and what it cost in CPU, memory and disk writes.
//
// A Server owns a directory:
//
//	DIR/config.yaml    generated from Options.Config over the harness's own settings
//	DIR/keys.yaml      API keys of Options.Tenants, as SHA-256; mode 0600
//	DIR/address.json   written by the server when it is ready
//	DIR/server.log     what the server printed, over all its lives
//	DIR/data           the server's data directory, unless Options.DataDir names another
//
// Each life of the process has one goroutine. It starts the process on a locked thread (the kernel kills the server when
// that thread's process, the harness, dies) and waits for it. Kill, Terminate and Close return only after that
// goroutine has seen the process end.
//
// The methods of a Server may be called from several goroutines, but Start, Kill, Terminate, Restart and Close one at a time.
package serverproc
