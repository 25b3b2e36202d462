package powercut

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// maxWriteBytes keeps a reply to a read within what a pipe holds, so that go-fuse can splice it.
const maxWriteBytes = 512 << 10

// Mounted is a Disk that the kernel serves at a directory. go-fuse owns the goroutines; Unmount ends them.
type Mounted struct {
	server *fuse.Server
}

// Mount serves d at dir, which must exist. It needs root and /dev/fuse.
func Mount(d *Disk, dir string) (*Mounted, error) {
	never := time.Duration(0) // the kernel keeps nothing: every look-up reaches the disk
	server, err := fusefs.Mount(dir, &dirNode{disk: d, dir: d.root}, &fusefs.Options{
		EntryTimeout: &never, AttrTimeout: &never, NegativeTimeout: &never,
		MountOptions: fuse.MountOptions{
			DirectMount: true, DirectMountStrict: true, FsName: "powercut", Name: "powercut", MaxWrite: maxWriteBytes, DisableXAttrs: true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("mount the power-cut file system: %w", err)
	}
	return &Mounted{server}, nil
}

// unmountPatience bounds the wait for a mount to be free. A process that is just being started, by another test of this one's, has all of
// its files open until it becomes the program that it is to run.
const unmountPatience = 30 * time.Second

// Unmount ends the service. REQUIRES: no process uses the mount.
func (m *Mounted) Unmount() error {
	err := m.server.Unmount()
	for deadline := time.Now().Add(unmountPatience); errors.Is(err, syscall.EBUSY) && time.Now().Before(deadline); {
		err = m.server.Unmount()
	}
	if err != nil {
		return fmt.Errorf("unmount the power-cut file system: %w", err)
	}
	m.server.Wait()
	return nil
}

type dirNode struct {
	fusefs.Inode
	disk *Disk
	dir  *directory
}

type fileNode struct {
	fusefs.Inode
	disk *Disk
	file *file
}

var (
	_ fusefs.NodeLookuper  = (*dirNode)(nil)
	_ fusefs.NodeReaddirer = (*dirNode)(nil)
	_ fusefs.NodeCreater   = (*dirNode)(nil)
	_ fusefs.NodeMkdirer   = (*dirNode)(nil)
	_ fusefs.NodeUnlinker  = (*dirNode)(nil)
	_ fusefs.NodeRmdirer   = (*dirNode)(nil)
	_ fusefs.NodeRenamer   = (*dirNode)(nil)
	_ fusefs.NodeFsyncer   = (*dirNode)(nil)
	_ fusefs.NodeGetattrer = (*dirNode)(nil)
	_ fusefs.NodeSetattrer = (*dirNode)(nil)
	_ fusefs.NodeStatfser  = (*dirNode)(nil)

	_ fusefs.NodeOpener    = (*fileNode)(nil)
	_ fusefs.NodeReader    = (*fileNode)(nil)
	_ fusefs.NodeWriter    = (*fileNode)(nil)
	_ fusefs.NodeFsyncer   = (*fileNode)(nil)
	_ fusefs.NodeFlusher   = (*fileNode)(nil)
	_ fusefs.NodeGetattrer = (*fileNode)(nil)
	_ fusefs.NodeSetattrer = (*fileNode)(nil)
	_ fusefs.NodeAllocater = (*fileNode)(nil)
)

// child returns the kernel's inode for n, the same one for the same node.
func (d *dirNode) child(ctx context.Context, name string, n node, out *fuse.EntryOut) *fusefs.Inode {
	if existing := d.GetChild(name); existing != nil && sameNode(existing, n) {
		fillEntry(n, out)
		return existing
	}
	fillEntry(n, out)
	switch n := n.(type) {
	case *directory:
		return d.NewInode(ctx, &dirNode{disk: d.disk, dir: n}, fusefs.StableAttr{Mode: syscall.S_IFDIR})
	case *file:
		return d.NewInode(ctx, &fileNode{disk: d.disk, file: n}, fusefs.StableAttr{Mode: syscall.S_IFREG})
	}
	panic("powercut: unknown kind of node")
}

func sameNode(inode *fusefs.Inode, n node) bool {
	switch ops := inode.Operations().(type) {
	case *dirNode:
		return n == ops.dir
	case *fileNode:
		return n == ops.file
	}
	return false
}

func fillEntry(n node, out *fuse.EntryOut) { fillAttr(n, &out.Attr) }

func fillAttr(n node, attr *fuse.Attr) {
	attr.Nlink, attr.Blksize = 1, 4096
	switch n := n.(type) {
	case *directory:
		attr.Mode = syscall.S_IFDIR | 0o755
	case *file:
		attr.Mode = syscall.S_IFREG | 0o644
		attr.Size = uint64(len(n.data))
		attr.Blocks = (attr.Size + SectorBytes - 1) / SectorBytes
	}
}

func (d *dirNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (inode *fusefs.Inode, errno syscall.Errno) {
	errno = d.disk.look(func() syscall.Errno {
		n, ok := d.dir.names[name]
		if !ok {
			return syscall.ENOENT
		}
		inode = d.child(ctx, name, n, out)
		return 0
	})
	return inode, errno
}

func (d *dirNode) Readdir(context.Context) (stream fusefs.DirStream, errno syscall.Errno) {
	errno = d.disk.look(func() syscall.Errno {
		var entries []fuse.DirEntry
		for _, name := range slices.Sorted(maps.Keys(d.dir.names)) {
			mode := uint32(syscall.S_IFREG)
			if _, ok := d.dir.names[name].(*directory); ok {
				mode = syscall.S_IFDIR
			}
			entries = append(entries, fuse.DirEntry{Name: name, Mode: mode})
		}
		stream = fusefs.NewListDirStream(entries)
		return 0
	})
	return stream, errno
}

// fileHandle is a placeholder: all state is in the node.
type fileHandle struct{}

// openFlags: nothing is cached, and a close asks nothing. A test reads the mount that it serves; when it is killed, a close that waits for an
// answer would never end.
const openFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH

func (d *dirNode) Create(ctx context.Context, name string, _, _ uint32, out *fuse.EntryOut) (
	inode *fusefs.Inode, handle fusefs.FileHandle, flags uint32, errno syscall.Errno) {
	errno = d.add(name, func(path string) node {
		n := &file{path: path}
		inode = d.child(ctx, name, n, out)
		return n
	})
	return inode, fileHandle{}, openFlags, errno
}

func (d *dirNode) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (inode *fusefs.Inode, errno syscall.Errno) {
	errno = d.add(name, func(path string) node {
		n := newDirectory(path)
		inode = d.child(ctx, name, n, out)
		return n
	})
	return inode, errno
}

// add gives a name to what create makes. A full disk has no room for it.
func (d *dirNode) add(name string, create func(path string) node) syscall.Errno {
	path := d.dir.at(name)
	return d.disk.do(operation{op: Create, path: path, apply: func(fault *Fault) syscall.Errno {
		if fault != nil {
			return fault.Errno
		}
		if _, ok := d.dir.names[name]; ok {
			return syscall.EEXIST
		}
		if !d.disk.space.hasRoomFor(1) {
			d.disk.stats.NoSpace++
			return syscall.ENOSPC
		}
		d.dir.change(change{name: create(path)})
		return 0
	}})
}

func (d *dirNode) Unlink(_ context.Context, name string) syscall.Errno {
	return d.disk.do(operation{op: Remove, path: d.dir.at(name), apply: func(fault *Fault) syscall.Errno {
		n, ok := d.dir.names[name].(*file)
		switch {
		case fault != nil:
			return fault.Errno
		case !ok:
			return syscall.ENOENT
		}
		d.disk.freeAbove(n, 0)
		d.dir.change(change{name: nil})
		return 0
	}})
}

func (d *dirNode) Rmdir(_ context.Context, name string) syscall.Errno {
	return d.disk.do(operation{op: Remove, path: d.dir.at(name), apply: func(fault *Fault) syscall.Errno {
		n, ok := d.dir.names[name].(*directory)
		switch {
		case fault != nil:
			return fault.Errno
		case !ok:
			return syscall.ENOENT
		case len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		d.dir.change(change{name: nil})
		return 0
	}})
}

func (d *dirNode) Rename(_ context.Context, name string, newParent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*dirNode)
	if !ok || flags != 0 {
		return syscall.EINVAL
	}
	return d.disk.do(operation{op: Rename, path: to.dir.at(newName), apply: func(fault *Fault) syscall.Errno {
		if fault != nil {
			return fault.Errno
		}
		replaced, ok := to.dir.names[newName].(*file)
		errno := rename(d.dir, name, to.dir, newName)
		if ok && errno == 0 {
			d.disk.freeAbove(replaced, 0)
		}
		return errno
	}})
}

func (d *dirNode) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	covered := 0
	return d.disk.do(operation{
		op: SyncDir, path: d.dir.path,
		begin: func() { covered = d.dir.changed() },
		apply: func(fault *Fault) syscall.Errno {
			switch {
			case fault == nil:
				d.dir.sync(covered)
				return 0
			case fault.loses():
				d.dir.forget(covered, &d.disk.stats, fault.rng())
			}
			return fault.Errno
		},
	})
}

func (d *dirNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return d.disk.look(func() syscall.Errno {
		fillAttr(d.dir, &out.Attr)
		return 0
	})
}

// Setattr accepts a change of mode or owner and forgets it: no test is about them.
func (d *dirNode) Setattr(ctx context.Context, handle fusefs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, handle, out)
}

func (d *dirNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	return d.disk.look(func() syscall.Errno {
		const plentyBytes = 1 << 36
		quota, used := d.disk.space.quotaBytes, d.disk.space.usedBytes
		if quota == 0 {
			quota = used + plentyBytes
		}
		out.Bsize, out.Frsize, out.NameLen = blockBytes, blockBytes, 255
		out.Blocks = uint64(quota / blockBytes)
		out.Bfree = uint64(max(0, quota-used) / blockBytes)
		out.Bavail = out.Bfree
		return 0
	})
}

func (f *fileNode) Open(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	return fileHandle{}, openFlags, 0
}

func (f *fileNode) Read(_ context.Context, _ fusefs.FileHandle, dest []byte, offset int64) (result fuse.ReadResult, errno syscall.Errno) {
	errno = f.disk.look(func() syscall.Errno {
		n := 0
		if offset < int64(len(f.file.data)) {
			n = copy(dest, f.file.data[offset:])
		}
		result = fuse.ReadResultData(dest[:n])
		return 0
	})
	return result, errno
}

// Write takes a part of the bytes, and says how many, where the disk gets full.
func (f *fileNode) Write(_ context.Context, _ fusefs.FileHandle, data []byte, offset int64) (written uint32, errno syscall.Errno) {
	errno = f.disk.do(operation{op: Write, file: f.file, apply: func(fault *Fault) syscall.Errno {
		if fault != nil {
			data = data[:fault.taken(len(data))]
		}
		if end := f.disk.takeSpace(f.file, offset, offset+int64(len(data))); end < offset+int64(len(data)) {
			if data = data[:end-offset]; len(data) == 0 {
				return syscall.ENOSPC
			}
		}
		if len(data) > 0 {
			f.file.write(offset, data)
		}
		written = uint32(len(data))
		if fault != nil {
			return fault.Errno
		}
		return 0
	}})
	return written, errno
}

func (f *fileNode) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	covered := 0
	return f.disk.do(operation{
		op: Sync, file: f.file,
		begin: func() { covered = f.file.written() },
		apply: func(fault *Fault) syscall.Errno {
			switch {
			case fault == nil:
				f.file.sync(covered)
				return 0
			case fault.loses():
				f.file.forget(covered, &f.disk.stats, fault.rng())
			}
			return fault.Errno
		},
	})
}

// Flush comes with the close of a file where the kernel does not know FOPEN_NOFLUSH; closing makes nothing durable.
func (f *fileNode) Flush(context.Context, fusefs.FileHandle) syscall.Errno { return 0 }

func (f *fileNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return f.disk.look(func() syscall.Errno {
		fillAttr(f.file, &out.Attr)
		return 0
	})
}

func (f *fileNode) Setattr(ctx context.Context, handle fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		errno := f.disk.do(operation{op: Resize, file: f.file, apply: func(fault *Fault) syscall.Errno {
			if fault != nil {
				return fault.Errno
			}
			f.disk.freeAbove(f.file, int64(size))
			f.file.resize(int64(size))
			return 0
		}})
		if errno != 0 {
			return errno
		}
	}
	return f.Getattr(ctx, handle, out)
}

// Allocate reserves space, and extends the file with zeros unless it is to keep its size.
func (f *fileNode) Allocate(_ context.Context, _ fusefs.FileHandle, offset, size uint64, mode uint32) syscall.Errno {
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE
	if mode&^keepSize != 0 {
		return syscall.EOPNOTSUPP
	}
	return f.disk.do(operation{op: Resize, file: f.file, apply: func(fault *Fault) syscall.Errno {
		if fault != nil {
			return fault.Errno
		}
		end := int64(offset + size)
		if errno := f.disk.reserve(f.file, int64(offset), end); errno != 0 {
			return errno
		}
		if mode&keepSize == 0 && end > int64(len(f.file.data)) {
			f.file.resize(end)
		}
		return 0
	}})
}

// IsMounted tells whether dir is a mount of this package, for tests that must be sure of what they run on.
func IsMounted(dir string) (bool, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	const fuseMagic = 0x65735546
	return stat.Type == fuseMagic, nil
}
