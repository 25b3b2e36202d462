package serverproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ExitStatus is how a process ended.
type ExitStatus struct {
	// Code is the exit code, or -1 when a signal ended the process.
	Code int
	// Signal is the signal that ended it, or 0.
	Signal syscall.Signal
}

func (s ExitStatus) String() string {
	if s.Signal != 0 {
		return "killed by " + s.Signal.String()
	}
	return fmt.Sprintf("exit code %d", s.Code)
}

// StartError says that the server ended, or was not ready in time, instead of listening.
type StartError struct {
	// Exited tells whether the process ended by itself; Status is valid then.
	Exited bool
	Status ExitStatus
	// LogTail is the end of what it printed.
	LogTail string
}

func (e *StartError) Error() string {
	what := "was not ready in time"
	if e.Exited {
		what = "ended before it was ready (" + e.Status.String() + ")"
	}
	return "the server " + what + "; its log ends with:\n" + e.LogTail
}

// ErrNotRunning is returned by what needs a running process when there is none.
var ErrNotRunning = errors.New("serverproc: the server is not running")

// addresses is the address file.
type addresses struct {
	GRPC  string `json:"grpc"`
	Admin string `json:"admin"`
	PID   int    `json:"pid"`
}

// Server is one server, over as many lives of its process as Kill and Restart make.
type Server struct {
	options Options
	keys    map[string]string

	mu     sync.Mutex // guards what a restart changes
	life   *life
	listen addresses
}

// now returns the present life and where it listens. The life is nil before the first start.
func (s *Server) now() (*life, addresses) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life, s.listen
}

// life is one process. The goroutine in run owns it.
type life struct {
	command *exec.Cmd
	started chan error
	ended   chan struct{}
	status  ExitStatus
}

// Start writes config and keys, starts the server and waits until it is ready. The error is a *StartError where the
// process ran but did not become ready. ctx bounds the wait, not the life of the server.
func Start(ctx context.Context, options Options) (*Server, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return nil, err
	}
	keys, err := options.writeKeys()
	if err != nil {
		return nil, err
	}
	s := &Server{options: options, keys: keys, listen: addresses{GRPC: anyFreePort, Admin: anyFreePort}}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Restart starts the server again after Kill, Terminate or an end of its own, on the same data and the same ports.
func (s *Server) Restart(ctx context.Context) error { return s.RestartWith(ctx, s.options.Config) }

// RestartWith is Restart with config in place of Options.Config, from now on.
func (s *Server) RestartWith(ctx context.Context, config map[string]any) error {
	if s.Running() {
		return errors.New("serverproc: the server is still running")
	}
	s.options.Config = config
	return s.start(ctx)
}

func (s *Server) start(ctx context.Context) error {
	_, listen := s.now()
	if err := s.options.writeConfig(listen.GRPC, listen.Admin); err != nil {
		return err
	}
	if err := os.Remove(s.options.addressPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	life, err := s.options.newLife()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.life = life
	s.listen.PID = 0
	s.mu.Unlock()
	return s.awaitReady(ctx, life)
}

// newLife starts a process and the goroutine that owns it.
func (o Options) newLife() (*life, error) {
	log, err := os.OpenFile(o.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	argv := slices.Concat(o.Wrap, o.argv())
	command := exec.Command(argv[0], argv[1:]...)
	command.Env = append(os.Environ(), o.Env...)
	command.Stdout, command.Stderr = log, log
	// A process group of its own: the terminal's Ctrl-C is for the harness, which then drains the server.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	l := &life{command: command, started: make(chan error, 1), ended: make(chan struct{})}
	go l.run()
	err = <-l.started
	// The process has its own descriptor of the log, and nothing was written through this one.
	_ = log.Close()
	if err != nil {
		<-l.ended
		return nil, fmt.Errorf("start the server: %w", err)
	}
	return l, nil
}

// run starts the process and waits for its end. The thread is locked because Pdeathsig follows the parent's thread.
func (l *life) run() {
	defer close(l.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := l.command.Start()
	l.started <- err
	if err != nil {
		return
	}
	// The error only repeats what ProcessState says.
	_ = l.command.Wait()
	l.status = exitStatus(l.command.ProcessState)
}

func exitStatus(state *os.ProcessState) ExitStatus {
	status := ExitStatus{Code: state.ExitCode()}
	if wait, ok := state.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		status.Signal = wait.Signal()
	}
	return status
}

// addressPollInterval is how often the address file is looked for. It is the resolution of the ready time.
const addressPollInterval = 2 * time.Millisecond

// awaitReady polls for the address file; the file system offers no portable way to wait for it.
func (s *Server) awaitReady(ctx context.Context, life *life) error {
	deadline := time.NewTimer(s.options.StartTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(addressPollInterval)
	defer poll.Stop()
	for {
		content, err := os.ReadFile(s.options.addressPath())
		if err == nil {
			var listen addresses
			if err := json.Unmarshal(content, &listen); err != nil {
				return errors.Join(fmt.Errorf("address file: %w", err), s.Close())
			}
			s.mu.Lock()
			s.listen = listen
			s.mu.Unlock()
			return nil
		}
		select {
		case <-poll.C:
		case <-life.ended:
			return &StartError{Exited: true, Status: life.status, LogTail: s.LogTail()}
		case <-deadline.C:
			return errors.Join(&StartError{LogTail: s.LogTail()}, s.Close())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.Close())
		}
	}
}

// Running tells whether the process lives.
func (s *Server) Running() bool {
	life, _ := s.now()
	return life.running()
}

func (l *life) running() bool {
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// Ended is closed when the present process has ended.
func (s *Server) Ended() <-chan struct{} {
	life, _ := s.now()
	return life.ended
}

// Wait waits for the end of the process and returns how it ended. It returns early, with an error, only when ctx ends.
func (s *Server) Wait(ctx context.Context) (ExitStatus, error) {
	life, _ := s.now()
	select {
	case <-life.ended:
		return life.status, nil
	case <-ctx.Done():
		return ExitStatus{}, ctx.Err()
	}
}

// Kill sends SIGKILL to the server and waits for its end, and for that of the wrapping command.
func (s *Server) Kill() (ExitStatus, error) {
	life, _ := s.now()
	if !life.running() {
		return life.status, ErrNotRunning
	}
	if err := s.signal(syscall.SIGKILL); err != nil {
		return ExitStatus{}, err
	}
	<-life.ended
	return life.status, nil
}

// Terminate sends SIGTERM, which asks the server to drain, and waits for its end. When ctx ends first the process is
// killed, and the error says so.
func (s *Server) Terminate(ctx context.Context) (ExitStatus, error) {
	life, _ := s.now()
	if !life.running() {
		return life.status, ErrNotRunning
	}
	if err := s.signal(syscall.SIGTERM); err != nil {
		return ExitStatus{}, err
	}
	status, err := s.Wait(ctx)
	if err == nil {
		return status, nil
	}
	killErr := s.signal(syscall.SIGKILL)
	<-life.ended
	return life.status, errors.Join(fmt.Errorf("the server did not drain in time and was killed: %w", err), killErr)
}

// signal signals the server itself where its process ID is known, not what wraps it. An ended process is no error.
func (s *Server) signal(signal syscall.Signal) error {
	life, listen := s.now()
	pid := life.command.Process.Pid
	if listen.PID > 0 {
		pid = listen.PID
	}
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to the server: %w", signal, err)
	}
	return nil
}

// Close kills the process group if it still runs and waits for its end. Files stay.
func (s *Server) Close() error {
	life, _ := s.now()
	if !life.running() {
		return nil
	}
	// The group holds the wrapper and the server.
	if err := syscall.Kill(-life.command.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-life.ended
	return nil
}

// GRPCAddress is host:port of the gRPC port. It survives restarts.
func (s *Server) GRPCAddress() string {
	_, listen := s.now()
	return listen.GRPC
}

// AdminAddress is host:port of the admin port. It survives restarts.
func (s *Server) AdminAddress() string {
	_, listen := s.now()
	return listen.Admin
}

// PID is the server's process ID as it states it; 0 until it is ready.
func (s *Server) PID() int {
	_, listen := s.now()
	return listen.PID
}

// Key is the API key of a tenant, or "" for an unknown one.
func (s *Server) Key(tenant string) string { return s.keys[tenant] }

// Keys holds the API keys by tenant. The caller must not change it.
func (s *Server) Keys() map[string]string { return s.keys }

// DataDir is the server's data directory.
func (s *Server) DataDir() string { return s.options.DataDir }

// ConfigPath is the path of the generated config file.
func (s *Server) ConfigPath() string { return s.options.configPath() }

// LogPath is the path of the file that holds what the server printed.
func (s *Server) LogPath() string { return s.options.logPath() }

const logTailLines = 20

// LogTail returns the last lines of the server's log.
func (s *Server) LogTail() string {
	content, err := os.ReadFile(s.options.logPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-logTailLines):], "\n")
}
