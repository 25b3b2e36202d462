package clockjump

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Supported tells whether there is code for this processor.
const Supported = runtime.GOARCH == "amd64"

// code takes the place of __vdso_clock_gettime(clock in edi, *timespec in rsi). It uses only registers that a call may change.
var code = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, // 0:  mov eax, SYS_clock_gettime
	0x0f, 0x05, // 5:  syscall
	0x85, 0xff, // 7:  test edi, edi; CLOCK_REALTIME is 0
	0x75, 0x0e, // 9:  jne 25
	0x85, 0xc0, // 11: test eax, eax
	0x75, 0x0a, // 13: jne 25
	0x48, 0x8b, 0x0d, 0x0a, 0x00, 0x00, 0x00, // 15: mov rcx, [rip+10]; the seconds, at 32
	0x48, 0x01, 0x0e, // 22: add [rsi], rcx
	0xc3,                               // 25: ret
	0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, // 26: never reached
}

const secondsBytes = 8

// Run starts a program whose wall clock is ahead by offset (behind, where that is negative), waits for its end, and ends the same way: with
// its exit code or by its signal. It is the whole of a wrapper's main.
func Run(offset time.Duration, argv []string) {
	runtime.LockOSThread() // a thread traces, not a process; and its end would kill the child
	status, err := run(offset, argv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clockjump:", err)
		os.Exit(1)
	}
	if status.Signaled() {
		signal.Reset(status.Signal())
		_ = syscall.Kill(os.Getpid(), status.Signal())
	}
	os.Exit(status.ExitStatus())
}

func run(offset time.Duration, argv []string) (status syscall.WaitStatus, err error) {
	command := exec.Command(argv[0], argv[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return 0, err
	}
	pid := command.Process.Pid
	err = install(pid, offset)
	if err != nil {
		err = errors.Join(err, command.Process.Kill())
	}
	var failed *exec.ExitError
	if waitErr := command.Wait(); waitErr != nil && !errors.As(waitErr, &failed) {
		err = errors.Join(err, waitErr)
	}
	status, _ = command.ProcessState.Sys().(syscall.WaitStatus)
	return status, err
}

// install puts the code into a process that stops before its first instruction, and lets it go.
func install(pid int, offset time.Duration) (err error) {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return fmt.Errorf("wait for the program's start: %w", err)
	}
	if !status.Stopped() || status.StopSignal() != syscall.SIGTRAP {
		return fmt.Errorf("the program did not start: %#x", status)
	}
	v, err := openVDSO(pid)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if v.size < len(code)+secondsBytes {
		return fmt.Errorf("the vDSO's clock_gettime has %d bytes, %d are needed", v.size, len(code)+secondsBytes)
	}
	if _, err := v.WriteAt(code, v.at); err != nil {
		return fmt.Errorf("write the vDSO: %w", err)
	}
	if err := v.setSeconds(offset); err != nil {
		return err
	}
	return syscall.PtraceDetach(pid)
}

// Shift sets how far the wall clock of a running process is ahead of the machine's, in whole seconds. The process must have been started
// by Run.
func Shift(pid int, offset time.Duration) (err error) {
	v, err := openVDSO(pid)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	present := make([]byte, len(code))
	if _, err := v.ReadAt(present, v.at); err != nil {
		return fmt.Errorf("clockjump: %w", err)
	}
	if !bytes.Equal(present, code) {
		return fmt.Errorf("clockjump: process %d was not started by Run", pid)
	}
	return v.setSeconds(offset)
}

// vdso is a process's memory.
type vdso struct {
	*os.File
	at   int64 // address of clock_gettime
	size int   // its bytes
}

func (v *vdso) setSeconds(offset time.Duration) error {
	seconds := binary.LittleEndian.AppendUint64(nil, uint64(offset/time.Second))
	if _, err := v.WriteAt(seconds, v.at+int64(len(code))); err != nil {
		return fmt.Errorf("clockjump: set the clock: %w", err)
	}
	return nil
}

func openVDSO(pid int) (*vdso, error) {
	first, last, err := findVDSO(pid)
	if err != nil {
		return nil, err
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("clockjump: %w", err)
	}
	v := &vdso{File: memory}
	if err := v.locate(first, last); err != nil {
		return nil, errors.Join(fmt.Errorf("clockjump: the vDSO of process %d: %w", pid, err), memory.Close())
	}
	return v, nil
}

// findVDSO returns where in memory the vDSO lies.
func findVDSO(pid int) (first, last int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("clockjump: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			_, err := fmt.Sscanf(line, "%x-%x ", &first, &last)
			return first, last, err
		}
	}
	return 0, 0, fmt.Errorf("clockjump: process %d has no vDSO", pid)
}

// locate finds the function in the image, which is an ELF file at address 0.
func (v *vdso) locate(first, last int64) error {
	image := make([]byte, last-first)
	if _, err := v.ReadAt(image, first); err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return err
	}
	for _, symbol := range symbols {
		if symbol.Name == "__vdso_clock_gettime" {
			v.at, v.size = first+int64(symbol.Value), int(symbol.Size)
			return nil
		}
	}
	return errors.New("it has no clock_gettime")
}
