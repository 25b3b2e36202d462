package blockdev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// FileSystem is one of those that the layer covers.
type FileSystem string

// The file systems.
const (
	Ext4 FileSystem = "ext4"
	XFS  FileSystem = "xfs"
)

// tools are the programs that the layer runs.
func (fs FileSystem) tools() []string {
	if fs == XFS {
		return []string{"losetup", "mkfs.xfs", "xfs_repair"}
	}
	return []string{"losetup", "mkfs.ext4", "e2fsck"}
}

// sizeBytes of the devices: what XFS takes at least, and some more. Blocks that were never written take no memory.
const sizeBytes = 512 << 20

// make returns an empty file system. temp is a name for a file that is gone when it returns.
func (fs FileSystem) make(temp string) (im image, err error) {
	if err := os.WriteFile(temp, nil, 0o600); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(temp)) }()
	if err := os.Truncate(temp, sizeBytes); err != nil {
		return nil, err
	}
	argv := []string{"mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", temp}
	if fs == XFS {
		// Sectors of 4 KiB, as drives report that write so much at once: the log and the headers are then never torn inside one.
		argv = []string{"mkfs.xfs", "-q", "-K", "-s", "size=4096", temp}
	}
	if err := command(argv...); err != nil {
		return nil, err
	}
	return loadImage(temp)
}

// Mounted is a disk's file system, with the loop device between them.
type Mounted struct {
	// Dir is where it is mounted.
	Dir  string
	host *Host
	fs   FileSystem
	path string
	loop string
}

// attach gives a disk a loop device. Mount and Fsck work on it until Detach.
func (h *Host) attach(d *Disk, fs FileSystem) (*Mounted, error) {
	m := &Mounted{host: h, fs: fs, path: h.Add(d)}
	m.Dir = filepath.Join(h.root, "mnt-"+filepath.Base(m.path))
	if err := os.Mkdir(m.Dir, 0o700); err != nil {
		return nil, err
	}
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io=on", "--nooverlap", m.path).Output()
	if err != nil {
		return nil, fmt.Errorf("losetup: %w: %s", err, stderrOf(err))
	}
	m.loop = strings.TrimSpace(string(out))
	return m, nil
}

// mount mounts; the kernel replays the journal.
func (m *Mounted) mount() error {
	data := ""
	if m.fs == XFS {
		data = "nouuid" // images of one run share their UUID
	}
	if err := unix.Mount(m.loop, m.Dir, string(m.fs), unix.MS_NOATIME, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.fs, m.loop, err)
	}
	return nil
}

// unmount unmounts, which writes back what is only in memory.
func (m *Mounted) unmount() error {
	if err := unix.Unmount(m.Dir, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", m.Dir, err)
	}
	return nil
}

// fsck checks the file system and changes nothing. REQUIRES: it is not mounted, and its journal is empty.
func (m *Mounted) fsck() error {
	if m.fs == XFS {
		return command("xfs_repair", "-n", m.loop)
	}
	return command("e2fsck", "-f", "-n", m.loop)
}

// detach gives everything back, whatever state it is in. It may be called more than once.
func (m *Mounted) detach() error {
	err := unix.Unmount(m.Dir, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // not mounted
		err = nil
	}
	if m.loop != "" {
		err = errors.Join(err, detachLoop(m.loop))
		m.loop = ""
	}
	m.host.Remove(m.path)
	if rmErr := os.Remove(m.Dir); !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

// detachTimeout bounds the wait for the kernel, which ends a lazy unmount and a loop device in the background.
const detachTimeout = 20 * time.Second

// detachLoop gives a loop device back and waits until it is free.
func detachLoop(loop string) error {
	busy := filepath.Join("/sys/block", filepath.Base(loop), "loop", "backing_file")
	if err := command("losetup", "--detach", loop); err != nil {
		if _, statErr := os.Stat(busy); errors.Is(statErr, os.ErrNotExist) {
			return nil // it was free
		}
		return err
	}
	for deadline := time.Now().Add(detachTimeout); ; time.Sleep(time.Millisecond) {
		content, err := os.ReadFile(busy)
		// Another process may have it by now.
		if err != nil || !strings.Contains(string(content), rootPrefix) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is still in use: %s", loop, content)
		}
	}
}

func command(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return nil
}

func stderrOf(err error) []byte {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.Stderr
	}
	return nil
}
