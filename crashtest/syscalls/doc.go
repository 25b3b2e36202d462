// Package syscalls lets every system call of the real server fail that touches its data directory: each one of a scripted session by itself.
//
// # Method
//
// The server runs under a seccomp filter whose notifications come to the test (see seccomp_unotify(2)): the kernel stops the thread at the
// entry of each call that works on files, and the supervisor says whether it is made, fails, or never happens because the process is
// killed. The supervisor finds the file by the descriptor or by the path in the server's memory, lets all calls pass that are not for
// the data directory, and counts the others over all threads. That is what strace cannot do: it counts each thread by itself, so that "the
// n-th call" depends on how goroutines fall on threads, and it filters by whole paths that must be known before. Neither root nor ptrace is
// needed.
//
// A session is short and the same each time: the server starts on nothing and takes a load that fills segments, seals generations and flushes
// them; it is killed; it recovers, takes another load and drains. A first session without a fault says which Sites there are: a call,
// a kind of file, and how many there were. The walk then takes a site's n-th call and one fault, runs the session, lets the server
// start once more without any fault, drain, and compares what is stored with the ledgers.
//
// # What must hold
//
// Nothing that was acked is missing, nothing is there twice or was never sent, batches are whole: whatever failed. Killed at the entry of a
// call, the server recovers. After EIO from a write or a sync of a segment of the log the process ends with exit code 4; after EIO or ENOSPC
// elsewhere it may go on, or end with an error; it may not panic, hang, or call the data damaged (exit code 3), for the disk is
// sound at the next start. The start after the fault succeeds.
//
// # What it does not prove
//
// A call fails as a whole and once. Short writes, errors that stay, and what a power cut would leave are for powercut and blockdev: here the page
// cache outlives the process.
package syscalls
