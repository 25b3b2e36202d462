// Package crashtest kills the real server under load and judges what is left.
//
// A campaign is one data directory that lives through many crashes while load generators keep sending. They write a
// ledger outside the server's reach: each batch before it is sent, each answer after it has come. After every few crashes the server
// is drained, and the judge (loadgen/verify, which shares no code with the server) compares the files that are left with
// the ledgers, record by record and byte by byte: nothing that was acked is missing, nothing is there twice, nothing
// appears that was not sent, batches are whole, and each producer's batches lie in the order they were sent.
//
// The crashes:
//
//   - SIGKILL at a random moment, also while the server is still starting and replaying;
//   - SIGKILL at the entry of the N-th fdatasync of a thread, by strace: the bytes are written, the sync never happens;
//   - an fdatasync that fails once with EIO, by strace: the server must end, not try again;
//   - a power cut on a file system that forgets what was not synced (package powercut), at a random moment and at the N-th write,
//     sync, create, rename, remove or resize; also after the process alone has died and another one has gone on with what was in memory.
//
// Beside them: a disk that is full, and logs that were damaged and repaired. TestTheJudgeSeesWhatIsPlanted judges the judge.
//
// SIGKILL shows that replay works and that nothing is acked too early as far as the process is concerned; only the power cuts can show that
// an fsync is missing. Neither shows what a device does that lies about its cache.
//
// A campaign waits for acked batches, not for time, so that a slow machine only makes it slower (package acks). Times only choose the moment
// of a crash.
//
// Flags, after -args: -kills sets the number of SIGKILLs, -cuts that of power cuts, -seed repeats a run's random choices. Every failure
// prints the seed. Timing still differs from run to run: a seed repeats the choices, not the exact interleaving.
package crashtest
