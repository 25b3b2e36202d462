//go:build linux && amd64

package syscalls

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// launchWord, as the first argument, makes a program that calls Launch the launcher.
const launchWord = "launch-under-supervision"

// Launch puts the seccomp filter on this process, gives its listener to the supervisor and becomes the program that the command line names,
// if the command line says so; else it returns. A test binary calls it first in TestMain.
func Launch() {
	if len(os.Args) < 4 || os.Args[1] != launchWord {
		return
	}
	err := launch(os.Args[2], os.Args[3:])
	fmt.Fprintln(os.Stderr, "launch:", err)
	os.Exit(1)
}

// launch does not return unless it fails. The filter belongs to this thread; exec keeps it and ends the others.
func launch(socketPath string, argv []string) error {
	runtime.LockOSThread()
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(socket, &unix.SockaddrUnix{Name: socketPath}); err != nil {
		return fmt.Errorf("connect to the supervisor: %w", err)
	}
	env := os.Environ()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := program()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return fmt.Errorf("hand over the listener: %w", err)
	}
	return syscall.Exec(argv[0], argv, env)
}

// program is the filter: calls of the list are notified, all others made.
func program() []unix.SockFilter {
	const nrOffset = 0 // in struct seccomp_data; the architecture is the one that this file is for
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nrOffset}}
	for i, c := range calls {
		filter = append(filter, unix.SockFilter{
			Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: c.nr, Jt: uint8(len(calls) - i),
		})
	}
	return append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
	)
}
