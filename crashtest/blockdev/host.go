package blockdev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxRequestBytes keeps a reply to a read within what a pipe holds, so that go-fuse can splice it.
const maxRequestBytes = 512 << 10

// Host is a directory in which every disk is a file. go-fuse owns the goroutines; Close ends them.
type Host struct {
	root   string // holds the mount points of this host and of its disks' file systems
	dir    string
	server *fuse.Server

	mu    sync.Mutex
	disks map[string]*Disk
	next  int
}

// NewHost removes what dead processes have left, and mounts a directory for disks. It needs root and /dev/fuse.
func NewHost() (*Host, error) {
	if err := Sweep(); err != nil {
		return nil, fmt.Errorf("blockdev: remove what an earlier run has left: %w", err)
	}
	root, err := os.MkdirTemp("", fmt.Sprintf("%s%d-*", rootPrefix, os.Getpid()))
	if err != nil {
		return nil, err
	}
	h := &Host{root: root, dir: filepath.Join(root, "disks"), disks: map[string]*Disk{}}
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		return nil, err
	}
	if err := h.serve(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	return h, nil
}

// serve mounts the directory. The mount is made here and not by go-fuse, because the descriptor must not be inherited: a server that held it
// would keep the device of its own file system waiting for this process, when this process is dead.
func (h *Host) serve() error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("blockdev: open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=%d", fd, maxRequestBytes)
	if err := unix.Mount("blockdev", h.dir, "fuse.blockdev", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return errors.Join(fmt.Errorf("blockdev: mount the directory of disks: %w", err), unix.Close(fd))
	}
	never := time.Duration(0)
	h.server, err = fusefs.Mount(fmt.Sprintf("/dev/fd/%d", fd), &hostNode{host: h}, &fusefs.Options{
		EntryTimeout: &never, AttrTimeout: &never, NegativeTimeout: &never,
		MountOptions: fuse.MountOptions{MaxWrite: maxRequestBytes, DisableXAttrs: true},
	})
	if err != nil {
		return errors.Join(fmt.Errorf("blockdev: serve the directory of disks: %w", err), unix.Unmount(h.dir, unix.MNT_DETACH))
	}
	return nil
}

// Add makes a file of a disk and returns its path.
func (h *Host) Add(d *Disk) (path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	name := fmt.Sprintf("disk-%d", h.next)
	h.disks[name] = d
	return filepath.Join(h.dir, name)
}

// Remove takes a disk away. REQUIRES: no loop device uses it.
func (h *Host) Remove(path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.disks, filepath.Base(path))
}

func (h *Host) find(name string) *Disk {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.disks[name]
}

// Close ends the service. What is still mounted on it is detached first.
func (h *Host) Close() error {
	if err := detachBelow(func(path string) bool { return strings.HasPrefix(path, h.root+"/mnt-") }, h.dir); err != nil {
		return err
	}
	if err := unix.Unmount(h.dir, 0); err != nil {
		return fmt.Errorf("blockdev: unmount the directory of disks: %w", err)
	}
	h.server.Wait()
	return os.RemoveAll(h.root)
}

type hostNode struct {
	fusefs.Inode
	host *Host
}

type diskNode struct {
	fusefs.Inode
	disk *Disk
}

var (
	_ fusefs.NodeLookuper  = (*hostNode)(nil)
	_ fusefs.NodeOpener    = (*diskNode)(nil)
	_ fusefs.NodeReader    = (*diskNode)(nil)
	_ fusefs.NodeWriter    = (*diskNode)(nil)
	_ fusefs.NodeFsyncer   = (*diskNode)(nil)
	_ fusefs.NodeFlusher   = (*diskNode)(nil)
	_ fusefs.NodeGetattrer = (*diskNode)(nil)
	_ fusefs.NodeAllocater = (*diskNode)(nil)
)

func (h *hostNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	disk := h.host.find(name)
	if disk == nil {
		return nil, syscall.ENOENT
	}
	disk.fill(&out.Attr)
	if child := h.GetChild(name); child != nil {
		return child, 0
	}
	return h.NewInode(ctx, &diskNode{disk: disk}, fusefs.StableAttr{Mode: syscall.S_IFREG}), 0
}

func (d *Disk) fill(attr *fuse.Attr) {
	attr.Mode, attr.Nlink, attr.Blksize = syscall.S_IFREG|0o600, 1, BlockBytes
	attr.Size = uint64(d.SizeBytes())
	attr.Blocks = attr.Size / SectorBytes
}

// diskHandle is a placeholder: all state is in the disk.
type diskHandle struct{}

func (n *diskNode) Open(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	// No page cache between the loop device and the disk: a write is seen when it is made, and in its order.
	return diskHandle{}, fuse.FOPEN_DIRECT_IO, 0
}

func (n *diskNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.fill(&out.Attr)
	return 0
}

func (n *diskNode) Read(_ context.Context, _ fusefs.FileHandle, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	length := max(0, min(int64(len(dest)), n.disk.SizeBytes()-offset))
	if err := n.disk.Read(offset, dest[:length]); err != nil {
		return nil, ioError(err)
	}
	return fuse.ReadResultData(dest[:length]), 0
}

func (n *diskNode) Write(_ context.Context, _ fusefs.FileHandle, b []byte, offset int64) (uint32, syscall.Errno) {
	if err := n.disk.Write(offset, b); err != nil {
		return 0, ioError(err)
	}
	return uint32(len(b)), 0
}

func (n *diskNode) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	n.disk.Flush()
	return 0
}

// Flush is what close(2) calls; it makes nothing durable.
func (n *diskNode) Flush(context.Context, fusefs.FileHandle) syscall.Errno { return 0 }

// Allocate is how a loop device discards and zeroes; a plain reservation needs nothing.
func (n *diskNode) Allocate(_ context.Context, _ fusefs.FileHandle, offset, size uint64, mode uint32) syscall.Errno {
	const punchHole, zeroRange = 2, 16
	if mode&(punchHole|zeroRange) == 0 {
		return 0
	}
	if err := n.disk.Zero(int64(offset), int64(size)); err != nil {
		return ioError(err)
	}
	return 0
}

func ioError(err error) syscall.Errno {
	slog.Error("a disk refuses a request", "error", err)
	return syscall.EIO
}
