package blockdev

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// abandonEnv makes this test binary a process that mounts, says so, and waits to be killed.
const abandonEnv = "INGESTOR_BLOCKDEV_ABANDON"

func TestMain(m *testing.M) {
	if image := os.Getenv(abandonEnv); image != "" {
		if err := abandon(image); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func abandon(image string) error {
	h, err := NewHost()
	if err != nil {
		return err
	}
	im, err := Ext4.make(image)
	if err != nil {
		return err
	}
	m, err := h.attach(newDisk(im, Rules{}), Ext4)
	if err != nil {
		return err
	}
	if err := m.mount(); err != nil {
		return err
	}
	// Not synced: the kernel still wants to write it when the device is gone.
	if err := os.WriteFile(filepath.Join(m.Dir, "dirty"), make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	fmt.Println("mounted")
	select {}
}

// remains lists what is mounted and attached in the name of a process.
func remains(t *testing.T, pid int) (left []string) {
	t.Helper()
	points, err := mountPoints()
	require.NoError(t, err)
	backed, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	require.NoError(t, err)
	for _, file := range backed {
		if content, err := os.ReadFile(file); err == nil {
			points = append(points, string(content))
		}
	}
	for _, point := range points {
		if ownerOf(point) == pid {
			left = append(left, point)
		}
	}
	return left
}

// TestWhatADeadProcessHasLeftIsSwept kills a process with a mounted device. That must not hang, and the next run must clean up after it.
func TestWhatADeadProcessHasLeftIsSwept(t *testing.T) {
	newHost(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), abandonEnv+"="+filepath.Join(t.TempDir(), "image"))
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "mounted", strings.TrimSpace(line))
	pid := child.Process.Pid
	require.Len(t, remains(t, pid), 3, "the directory of disks, the file system, the loop device")
	require.NoError(t, Sweep())
	require.Len(t, remains(t, pid), 3, "what a living process uses is left alone")

	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	require.NotEmpty(t, remains(t, pid), "otherwise there is nothing to sweep")
	require.NoError(t, Sweep())
	require.Empty(t, remains(t, pid))
	roots, err := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-*", rootPrefix, pid)))
	require.NoError(t, err)
	require.Empty(t, roots)
}

// TestNothingInheritsTheDevice: a process that outlives the test must not keep the device of its own file system waiting for it.
func TestNothingInheritsTheDevice(t *testing.T) {
	newHost(t)
	child := exec.Command("sh", "-c", "ls -l /proc/$$/fd")
	out, err := child.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "/dev/null", "otherwise this looks in the wrong place")
	require.NotContains(t, string(out), "/dev/fuse")
}

// TestAHostThatIsClosedLeavesNothing closes it while a device is mounted and written to, as a test that has failed does.
func TestAHostThatIsClosedLeavesNothing(t *testing.T) {
	newHost(t)
	h, err := NewHost()
	require.NoError(t, err)
	im, err := Ext4.make(filepath.Join(t.TempDir(), "image"))
	require.NoError(t, err)
	m, err := h.attach(newDisk(im, Rules{}), Ext4)
	require.NoError(t, err)
	require.NoError(t, m.mount())
	require.NoError(t, os.WriteFile(filepath.Join(m.Dir, "dirty"), make([]byte, 1<<20), 0o600))
	require.NoError(t, h.Close())
	for _, path := range remains(t, os.Getpid()) {
		require.NotContains(t, path, h.root)
	}
}
