// Package clockjump lets the wall clock of one process jump, and of no other.
//
// A static Go program reads the clock in the vDSO, a page of code that the kernel maps into each process: neither a preloaded library nor a
// tracer of system calls sees it. So the code of __vdso_clock_gettime is replaced in the memory of the one process, before its first
// instruction, by code that makes the system call and adds a number of seconds to CLOCK_REALTIME. The number stands behind the code, where
// Shift changes it while the process runs. CLOCK_MONOTONIC, and with it all timers, stay as they are: so it is when an administrator or
// NTP sets a machine's clock.
//
// The kernel copies the page when it is written to, as it does for a debugger's breakpoint. It works on Linux on amd64, on processes that
// the caller may trace.
package clockjump
