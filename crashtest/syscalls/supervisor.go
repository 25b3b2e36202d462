//go:build linux && amd64

package syscalls

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supervisor decides about the calls of a server, over all lives of its process. It has one goroutine that waits for the next process, and
// one for each process; Close joins them.
type Supervisor struct {
	dataDir string
	socket  *net.UnixListener
	running sync.WaitGroup

	mu     sync.Mutex
	fault  *Fault // nil once it has happened
	counts map[Site]int
	hit    string // the call that the fault happened to, with its file; empty: none yet
	err    error
}

// NewSupervisor supervises processes that are started with its Wrap. Only calls on files in dataDir count. Where fault is not nil it happens
// once. dir takes a socket.
func NewSupervisor(dir, dataDir string, fault *Fault) (*Supervisor, error) {
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "supervisor"), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("syscalls: %w", err)
	}
	s := &Supervisor{dataDir: dataDir, socket: socket, fault: fault, counts: map[Site]int{}}
	s.running.Go(s.accept)
	return s, nil
}

// Wrap is what goes before a command line. REQUIRES: this program calls Launch.
func (s *Supervisor) Wrap() []string {
	return []string{os.Args[0], launchWord, s.socket.Addr().String()}
}

// Close ends the supervision. REQUIRES: no supervised process lives.
func (s *Supervisor) Close() error {
	err := s.socket.Close()
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.err)
}

// Counts says how many calls of each site there were.
func (s *Supervisor) Counts() map[Site]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// Hit is the call that the fault has happened to; empty: none yet.
func (s *Supervisor) Hit() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hit
}

func (s *Supervisor) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

func (s *Supervisor) accept() {
	for {
		conn, err := s.socket.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.fail(err)
			return
		}
		listener, err := receive(conn)
		if err = errors.Join(err, conn.Close()); err != nil {
			s.fail(fmt.Errorf("syscalls: take over the listener: %w", err))
			continue
		}
		s.running.Go(func() {
			if err := errors.Join(s.serve(listener), unix.Close(listener)); err != nil {
				s.fail(err)
			}
		})
	}
}

// receive takes the descriptor that the launcher sends.
func receive(conn *net.UnixConn) (fd int, err error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	return fds[0], nil
}

// notification is struct seccomp_notif.
type notification struct {
	id    uint64
	tid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	errno int32 // negative
	flags uint32
}

// serve answers until the process has ended.
func (s *Supervisor) serve(listener int) error {
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return fmt.Errorf("syscalls: poll: %w", err)
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return nil // nobody has the filter any more
		}
		n := notification{}
		if errno := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); errno != 0 {
			if errno == unix.EINTR || errno == unix.ENOENT { // its thread has died
				continue
			}
			return fmt.Errorf("syscalls: receive a notification: %w", errno)
		}
		r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		switch s.decide(&n) {
		case Kill:
			if err := unix.Kill(int(n.tid), unix.SIGKILL); err != nil {
				return fmt.Errorf("syscalls: kill: %w", err)
			}
			continue // no answer: the call is never made
		case EIO:
			r.flags, r.errno = 0, -int32(unix.EIO)
		case ENOSPC:
			r.flags, r.errno = 0, -int32(unix.ENOSPC)
		case lie:
			r.flags = 0
			if callWrites(n.nr) {
				r.value = int64(n.args[2])
			}
		default:
		}
		if errno := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)); errno != 0 && errno != unix.ENOENT {
			return fmt.Errorf("syscalls: answer: %w", errno)
		}
	}
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return errno
}

// decide counts a call and says what becomes of it.
func (s *Supervisor) decide(n *notification) Kind {
	c, ok := callOf(n.nr)
	if !ok {
		return pass
	}
	path, ok := c.path(n)
	if !ok {
		return pass
	}
	relative, err := filepath.Rel(s.dataDir, path)
	if err != nil || relative == ".." || strings.HasPrefix(relative, "../") {
		return pass
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	site := Site{c.name, fileKind(relative)}
	s.counts[site]++
	f := s.fault
	if f == nil || f.Site != site || s.counts[site] < f.N {
		return pass
	}
	s.hit = c.name + " " + relative
	if f.Kind != lie { // who lies goes on lying
		s.fault = nil
	}
	return f.Kind
}

// path is the file that a call works on; false where it is none that can be told.
func (c *call) path(n *notification) (string, bool) {
	if c.fdArg >= 0 {
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.tid, int32(n.args[c.fdArg])))
		return path, err == nil && strings.HasPrefix(path, "/")
	}
	buffer := make([]byte, unix.PathMax)
	address := uintptr(n.args[c.pathArg])
	// The string may end before a page that is not there: read up to the end of its page first.
	for _, size := range []uintptr{4096 - address%4096, unix.PathMax} {
		local := []unix.Iovec{{Base: &buffer[0], Len: uint64(size)}}
		got, err := unix.ProcessVMReadv(int(n.tid), local, []unix.RemoteIovec{{Base: address, Len: int(size)}}, 0)
		if err != nil {
			return "", false
		}
		if end := bytes.IndexByte(buffer[:got], 0); end >= 0 {
			path := string(buffer[:end])
			return path, strings.HasPrefix(path, "/")
		}
	}
	return "", false
}
