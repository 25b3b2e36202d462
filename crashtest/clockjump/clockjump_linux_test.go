package clockjump_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest/clockjump"
)

// The test's own binary is also the wrapper, and the program whose clock jumps.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 3 && os.Args[1] == "wrap":
		offset, err := time.ParseDuration(os.Args[2])
		if err != nil {
			panic(err)
		}
		clockjump.Run(offset, os.Args[3:])
	case len(os.Args) == 2 && os.Args[1] == "tell":
		tell()
	default:
		os.Exit(m.Run())
	}
}

// tell answers each line with its process, its wall clock, and the time since its start by the monotonic clock.
func tell() {
	began := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(os.Getpid(), time.Now().UnixNano(), int64(time.Since(began)))
	}
	os.Exit(7)
}

type program struct {
	*exec.Cmd
	in  *os.File
	out *bufio.Reader
}

func start(t *testing.T, offset time.Duration) *program {
	t.Helper()
	if !clockjump.Supported {
		t.Skip("needs amd64")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	p := &program{Cmd: exec.Command(self, "wrap", offset.String(), self, "tell")}
	p.Stderr = t.Output()
	in, inWriter, err := os.Pipe()
	require.NoError(t, err)
	p.Stdin, p.in = in, inWriter
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewReader(out)
	require.NoError(t, p.Start())
	require.NoError(t, in.Close())
	t.Cleanup(func() {
		_ = p.in.Close()
		_ = p.Wait() // where the test has not done so
	})
	return p
}

// ask returns the process and how far its clock is ahead.
func (p *program) ask(t *testing.T) (pid int, ahead, sinceStart time.Duration) {
	t.Helper()
	_, err := fmt.Fprintln(p.in)
	require.NoError(t, err)
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	fields := strings.Fields(line)
	require.Len(t, fields, 3)
	numbers := make([]int64, 3)
	for i, text := range fields {
		numbers[i], err = strconv.ParseInt(text, 10, 64)
		require.NoError(t, err)
	}
	return int(numbers[0]), time.Until(time.Unix(0, numbers[1])), time.Duration(numbers[2])
}

func TestOnlyTheWallClockOfOneProcessJumps(t *testing.T) {
	const day = 24 * time.Hour
	p := start(t, 26*time.Hour)
	began := time.Now()
	pid, ahead, _ := p.ask(t)
	require.InDelta(t, 26*time.Hour, ahead, float64(time.Minute))
	for _, offset := range []time.Duration{-40 * day, 400 * day, 0, -time.Hour} {
		require.NoError(t, clockjump.Shift(pid, offset))
		_, ahead, sinceStart := p.ask(t)
		require.InDelta(t, offset, ahead, float64(time.Minute))
		require.LessOrEqual(t, sinceStart, time.Since(began), "the monotonic clock goes on as before")
		require.Positive(t, sinceStart)
	}
	require.NoError(t, p.in.Close())
	var exit *exec.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, 7, exit.ExitCode(), "the program's own exit code")
}

func TestTheWrapperDiesOfTheProgramsSignal(t *testing.T) {
	p := start(t, time.Hour)
	pid, _, _ := p.ask(t)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	var exit *exec.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
}

func TestAProcessThatWasNotPreparedIsLeftAlone(t *testing.T) {
	if !clockjump.Supported {
		t.Skip("needs amd64")
	}
	require.ErrorContains(t, clockjump.Shift(os.Getpid(), time.Hour), "was not started by Run")
}
