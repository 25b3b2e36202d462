// Package crashtest kills the real server under load and judges what is left.
//
// A campaign is one data directory that lives through many crashes while load generators keep sending, at every ack level. They write a
// ledger outside the server's reach: each batch before it is sent, each answer after it has come.
//
// The judge shares no code with the server. After every crash, before anything recovers from it, it reads the log by its published format,
// the manifest and the database's checkpoint (Remains): each batch that was acked as durable is in every sink or whole in the log, at the
// position that the ack named, and no sink is ahead of the log. After the last crash of a round the server recovers, is killed
// as soon as it is ready, and recovers again: both must find the same. Then it is drained, and loadgen/verify compares everything
// that is stored with the ledgers, record by record and byte by byte, each sink by itself: nothing that was acked is missing, nothing is
// there twice, nothing appears that was not sent or was refused, batches are whole, and what is there of a producer has no hole and lies in
// the order in which it was sent. What was acked as BUFFERED may be lost by a crash, but not doubled and not in part. After every start the
// server must take durable writes again within a bound.
//
// The crashes:
//
//   - SIGKILL at a random moment, also while the server is still starting and replaying;
//   - SIGKILL at the entry of the N-th fdatasync of a thread, by strace: the bytes are written, the sync never happens;
//   - an fdatasync that fails once with EIO, by strace: the server must end, not try again;
//   - a power cut on a file system that forgets what was not synced (package powercut), at a random moment and at the N-th write,
//     sync, create, rename, remove or resize; also after the process alone has died and another one has gone on with what was in memory,
//     and while the server recovers;
//   - the same after an operation on each kind of file has failed, was interrupted, took only a part or was slow (FaultCases), and on a disk
//     that got full at some byte (Power.Fill).
//
// Beside them: queues that are full, and logs that were damaged and repaired. The tests named TestTheJudgeSees judge the judge.
//
// SIGKILL shows that replay works and that nothing is acked too early as far as the process is concerned; only the power cuts can show that
// an fsync is missing. Neither shows what a device does that lies about its cache.
//
// A campaign waits for acked batches, not for time, so that a slow machine only makes it slower. Times only choose the moment
// of a crash.
//
// How much is explored, and the seed, are those of package crashlevel; every failure prints the command that repeats it. Timing still differs from run to run: a seed repeats the choices, not the exact interleaving.
package crashtest
