package blockdev

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rootPrefix begins the name of every directory that a Host makes; the process ID follows. By it a later run finds what a dead one
// has left mounted.
const rootPrefix = "ingestor-blockdev-"

// ownerOf returns the process whose directory a path lies in; 0 where it lies in none.
func ownerOf(path string) int {
	for part := range strings.SplitSeq(path, "/") {
		if rest, ok := strings.CutPrefix(part, rootPrefix); ok {
			pid, _, _ := strings.Cut(rest, "-")
			n, err := strconv.Atoi(pid)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

func orphaned(path string) bool {
	owner := ownerOf(path)
	return owner > 0 && errors.Is(unix.Kill(owner, 0), unix.ESRCH)
}

// Sweep unmounts and detaches what processes that are dead have left, and removes their directories. It leaves those of living ones alone.
func Sweep() error {
	if err := detachBelow(orphaned, ""); err != nil {
		return err
	}
	roots, err := filepath.Glob(filepath.Join(os.TempDir(), rootPrefix+"*"))
	if err != nil {
		return err
	}
	for _, root := range roots {
		if orphaned(root) {
			err = errors.Join(err, os.RemoveAll(root))
		}
	}
	return err
}

// detachBelow lazily unmounts every mount point that ours picks, the latest first, and detaches the loop devices whose backing file it picks
// or which lie in the directory disks.
func detachBelow(ours func(path string) bool, disks string) error {
	points, err := mountPoints()
	if err != nil {
		return err
	}
	slices.Reverse(points)
	var errs []error
	for _, point := range points {
		if ours(point) {
			if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
			}
		}
	}
	backed, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	errs = append(errs, err)
	for _, file := range backed {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it was detached meanwhile
		}
		path := strings.TrimSpace(string(content))
		if ours(path) || disks != "" && strings.HasPrefix(path, disks+"/") {
			errs = append(errs, detachLoop("/dev/"+filepath.Base(filepath.Dir(filepath.Dir(file)))))
		}
	}
	return errors.Join(errs...)
}

// mountPoints lists the mount points in the order in which they were mounted.
func mountPoints() (points []string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 {
			points = append(points, fields[4])
		}
	}
	return points, lines.Err()
}
