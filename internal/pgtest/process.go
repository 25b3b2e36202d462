package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// findBinaries returns the directory of initdb and postgres, the newest version first.
func findBinaries() (string, bool) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	slices.SortFunc(dirs, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		if isFile(filepath.Join(dir, "initdb")) && isFile(filepath.Join(dir, "postgres")) {
			return dir, true
		}
	}
	return "", false
}

func majorVersion(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // anything else sorts last
	return n
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// process runs the postgres binaries of the machine on a temporary directory.
type process struct {
	bin        string
	dir        string
	port       int
	credential *syscall.Credential // nil: run as we are
	logFile    string

	postmaster *os.Process
	exited     chan struct{} // closed when the postmaster has been waited for
}

// newProcess makes the cluster's files and starts nothing.
func newProcess(ctx context.Context, bin string, port int) (*process, error) {
	credential, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return nil, err
	}
	p := &process{bin: bin, dir: dir, port: port, credential: credential, logFile: filepath.Join(dir, "log")}
	if err := p.initdb(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

// unprivileged returns the user to run as: nobody changes for a user other than root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("pgtest: user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("pgtest: postgres must not run as root, and there is neither a user postgres nor nobody")
}

func (p *process) dataDir() string { return filepath.Join(p.dir, "data") }

func (p *process) initdb(ctx context.Context) error {
	if p.credential != nil {
		if err := os.Chown(p.dir, int(p.credential.Uid), int(p.credential.Gid)); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), "--pgdata", p.dataDir(), "--username", "postgres",
		"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgtest: initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// start runs the postmaster. The goroutine that starts it also waits for it, on a locked thread: the kernel sends
// Pdeathsig when the starting *thread* ends, and this one ends only after the postmaster.
func (p *process) start(context.Context) error {
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.dataDir(), "-p", strconv.Itoa(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=100",
		"-c", "max_prepared_transactions=10")
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	started := make(chan error)
	exited := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the exit status of a killed server says nothing
		}
		_ = log.Close()
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("pgtest: start postgres: %w", err)
	}
	p.postmaster, p.exited = cmd.Process, exited
	return nil
}

// kill stops the postmaster first, so that it forks no more, then kills its children and it.
func (p *process) kill(ctx context.Context) error {
	if err := p.postmaster.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pgtest: stop the postmaster: %w", err)
	}
	children, err := childrenOf(p.postmaster.Pid)
	if err != nil {
		return err
	}
	for _, pid := range append(children, p.postmaster.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("pgtest: kill %d: %w", pid, err)
		}
	}
	<-p.exited
	return waitGone(ctx, children)
}

// abort returns when the postmaster has ended. It waits for its children.
func (p *process) abort(context.Context) error {
	err := p.postmaster.Signal(syscall.SIGQUIT) // immediate shutdown
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-p.exited
	return err
}

func (p *process) stop() error {
	if p.postmaster == nil {
		return os.RemoveAll(p.dir)
	}
	return errors.Join(p.abort(context.Background()), os.RemoveAll(p.dir))
}

// childrenOf reads the process table.
func childrenOf(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ppid, _, ok := readStat(pid); ok && ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// readStat returns the parent and the state of a process; false where it is gone.
func readStat(pid int) (ppid int, state byte, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	// "pid (command) state ppid …": the command may hold spaces and brackets.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0, 0, false
	}
	ppid, err = strconv.Atoi(fields[1])
	return ppid, fields[0][0], err == nil
}

// waitGone waits until the processes, killed before, have let go of their memory. Nobody may reap them: a zombie is
// gone.
func waitGone(ctx context.Context, pids []int) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for _, pid := range pids {
		for {
			if _, state, ok := readStat(pid); !ok || state == 'Z' || state == 'X' {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("pgtest: process %d does not end: %w", pid, ctx.Err())
			}
		}
	}
	return nil
}
