//go:build linux && amd64

package syscalls

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// probeEnv makes this test binary a program that writes a file and says how each call ended.
const probeEnv = "INGESTOR_SYSCALLS_PROBE"

func probe(dataDir string) error {
	if err := os.Mkdir(filepath.Join(dataDir, "wal"), 0o755); err != nil {
		return err
	}
	for _, path := range []string{filepath.Join(dataDir, "..", "beside.wal"), filepath.Join(dataDir, "wal", "1.wal")} {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		for i := range 3 {
			_, writeErr := f.WriteAt([]byte("block"), int64(5*i))
			fmt.Println(filepath.Base(path), i+1, errno(writeErr), errno(syscall.Fdatasync(int(f.Fd()))))
		}
	}
	return nil
}

func errno(err error) string {
	var number syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &number):
		return map[syscall.Errno]string{syscall.EIO: "EIO", syscall.ENOSPC: "ENOSPC"}[number]
	}
	return err.Error()
}

// TestTheFaultHitsTheCallThatItNames runs a program whose calls are known.
func TestTheFaultHitsTheCallThatItNames(t *testing.T) {
	const beside = "beside.wal 1 ok ok\nbeside.wal 2 ok ok\nbeside.wal 3 ok ok\n"
	for _, c := range []struct {
		fault  *Fault
		output string
		signal syscall.Signal
		stored string
	}{
		{nil, "1.wal 1 ok ok\n1.wal 2 ok ok\n1.wal 3 ok ok\n", 0, "blockblockblock"},
		{&Fault{Site{"fdatasync", segment}, 2, EIO}, "1.wal 1 ok ok\n1.wal 2 ok EIO\n1.wal 3 ok ok\n", 0, "blockblockblock"},
		{&Fault{Site{"pwrite64", segment}, 3, ENOSPC}, "1.wal 1 ok ok\n1.wal 2 ok ok\n1.wal 3 ENOSPC ok\n", 0, "blockblock"},
		{&Fault{Site{"pwrite64", segment}, 2, Kill}, "1.wal 1 ok ok\n", syscall.SIGKILL, "block"},
		{&Fault{Site{"pwrite64", segment}, 3, lie}, "1.wal 1 ok ok\n1.wal 2 ok ok\n1.wal 3 ok ok\n", 0, "blockblock"},
		{&Fault{Site{"openat", segment}, 1, Kill}, "", syscall.SIGKILL, ""},
		{&Fault{Site{"pwrite64", segment}, 4, EIO}, "1.wal 1 ok ok\n1.wal 2 ok ok\n1.wal 3 ok ok\n", 0, "blockblockblock"},
	} {
		t.Run(fmt.Sprint(c.fault), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "syscalls-")
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
			dataDir := filepath.Join(dir, "data")
			require.NoError(t, os.Mkdir(dataDir, 0o755))
			s, err := NewSupervisor(dir, dataDir, c.fault)
			require.NoError(t, err)
			wrap := s.Wrap()
			command := exec.Command(wrap[0], append(wrap[1:], os.Args[0])...)
			command.Env = append(os.Environ(), probeEnv+"="+dataDir)
			var out strings.Builder
			command.Stdout, command.Stderr = &out, &out
			err = command.Run()
			require.NoError(t, s.Close())
			require.Equal(t, beside+c.output, out.String())
			status := command.ProcessState.Sys().(syscall.WaitStatus)
			require.Equal(t, c.signal != 0, status.Signaled(), err)
			if c.signal != 0 {
				require.Equal(t, c.signal, status.Signal())
			}
			stored, err := os.ReadFile(filepath.Join(dataDir, "wal", "1.wal"))
			if !errors.Is(err, fs.ErrNotExist) {
				require.NoError(t, err)
			}
			require.Equal(t, c.stored, string(stored))
			counts := s.Counts()
			require.Equal(t, 1, counts[Site{"mkdirat", "wal/"}], counts)
			if c.signal == 0 {
				require.Equal(t, 3, counts[Site{"pwrite64", segment}], counts)
				require.Equal(t, 3, counts[Site{"fdatasync", segment}], counts)
			}
			hit := c.fault != nil && c.fault.N < 4
			require.Equal(t, hit, s.Hit() != "", s.Hit())
		})
	}
}

// TestTheJudgeSeesCallsThatWereNotMade plants calls that are answered and never made. The session must not pass; without them it does.
func TestTheJudgeSeesCallsThatWereNotMade(t *testing.T) {
	for _, fault := range []*Fault{nil, {Site{"pwrite64", segment}, 2, lie}, {Site{"renameat", parquet}, 1, lie}} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			result, err := play(t, &Session{
				Binary: serverBinary(t), Rng: rand.New(rand.NewPCG(seed, 0)), Fault: fault,
				Unflushed: fault == nil || fault.File == segment,
			})
			if fault == nil {
				require.NoError(t, err)
				require.Positive(t, result.Acked)
				return
			}
			require.ErrorContains(t, err, "the call: "+fault.Call)
			t.Log(strings.SplitN(err.Error(), "\n", 2)[0])
		})
	}
}
