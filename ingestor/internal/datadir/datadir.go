// Package datadir owns the data directory as a whole: it makes it, makes its name durable, and keeps a second server, or a tool
// that would change the files, out of it.
package datadir

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

const lockName = "LOCK"

// Open makes the data directory, makes its own name durable, and locks it. The lock goes with the process, however that ends.
func Open(dir string) (unlock func() error, err error) {
	if err := makeDurably(dir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return Lock(dir)
}

// Lock locks an existing data directory.
func Lock(dir string) (unlock func() error, err error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", dir, err)
	}
	return lock.Close, nil
}

// makeDurably makes dir and its missing parents, and syncs every directory that got a new name in it. A directory that exists is
// synced into its parent as well: an earlier process may have died between the two.
func makeDurably(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	existing := filepath.Dir(dir)
	for existing != filepath.Dir(existing) {
		if _, err := os.Stat(existing); err == nil {
			break
		}
		existing = filepath.Dir(existing)
	}
	if err := vfs.OS.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if err := vfs.OS.SyncDir(parent); err != nil {
			return err
		}
		if parent == existing {
			return nil
		}
	}
}
