package powercut

import (
	"context"
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
			DirectMount: true, FsName: "powercut", Name: "powercut", MaxWrite: maxWriteBytes, DisableXAttrs: true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("mount the power-cut file system: %w", err)
	}
	return &Mounted{server}, nil
}

// Unmount ends the service. REQUIRES: no process uses the mount.
func (m *Mounted) Unmount() error {
	if err := m.server.Unmount(); err != nil {
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

func (d *dirNode) Create(ctx context.Context, name string, _, _ uint32, out *fuse.EntryOut) (
	inode *fusefs.Inode, handle fusefs.FileHandle, flags uint32, errno syscall.Errno) {
	errno = d.disk.do(Create, func() syscall.Errno {
		if _, ok := d.dir.names[name]; ok {
			return syscall.EEXIST
		}
		n := &file{}
		d.dir.change(change{name: n})
		inode = d.child(ctx, name, n, out)
		return 0
	})
	return inode, fileHandle{}, fuse.FOPEN_DIRECT_IO, errno
}

func (d *dirNode) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (inode *fusefs.Inode, errno syscall.Errno) {
	errno = d.disk.do(Create, func() syscall.Errno {
		if _, ok := d.dir.names[name]; ok {
			return syscall.EEXIST
		}
		n := newDirectory()
		d.dir.change(change{name: n})
		inode = d.child(ctx, name, n, out)
		return 0
	})
	return inode, errno
}

func (d *dirNode) Unlink(_ context.Context, name string) syscall.Errno {
	return d.disk.do(Remove, func() syscall.Errno {
		if _, ok := d.dir.names[name]; !ok {
			return syscall.ENOENT
		}
		d.dir.change(change{name: nil})
		return 0
	})
}

func (d *dirNode) Rmdir(_ context.Context, name string) syscall.Errno {
	return d.disk.do(Remove, func() syscall.Errno {
		n, ok := d.dir.names[name].(*directory)
		switch {
		case !ok:
			return syscall.ENOENT
		case len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		d.dir.change(change{name: nil})
		return 0
	})
}

func (d *dirNode) Rename(_ context.Context, name string, newParent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*dirNode)
	if !ok || flags != 0 {
		return syscall.EINVAL
	}
	return d.disk.do(Rename, func() syscall.Errno { return rename(d.dir, name, to.dir, newName) })
}

func (d *dirNode) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	return d.disk.do(SyncDir, func() syscall.Errno {
		d.dir.sync()
		return 0
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
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks, out.Bfree, out.Bavail = 1<<24, 1<<23, 1<<23
	return 0
}

func (f *fileNode) Open(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	return fileHandle{}, fuse.FOPEN_DIRECT_IO, 0
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

func (f *fileNode) Write(_ context.Context, _ fusefs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	errno := f.disk.do(Write, func() syscall.Errno {
		f.file.write(offset, data)
		return 0
	})
	return uint32(len(data)), errno
}

func (f *fileNode) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	return f.disk.do(Sync, func() syscall.Errno {
		f.file.sync()
		return 0
	})
}

// Flush comes with close; closing makes nothing durable.
func (f *fileNode) Flush(context.Context, fusefs.FileHandle) syscall.Errno { return 0 }

func (f *fileNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return f.disk.look(func() syscall.Errno {
		fillAttr(f.file, &out.Attr)
		return 0
	})
}

func (f *fileNode) Setattr(ctx context.Context, handle fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		errno := f.disk.do(Resize, func() syscall.Errno {
			f.file.resize(int64(size))
			return 0
		})
		if errno != 0 {
			return errno
		}
	}
	return f.Getattr(ctx, handle, out)
}

// Allocate extends the file with zeros, as fallocate without flags does.
func (f *fileNode) Allocate(_ context.Context, _ fusefs.FileHandle, offset, size uint64, mode uint32) syscall.Errno {
	if mode != 0 {
		return syscall.EOPNOTSUPP
	}
	return f.disk.do(Resize, func() syscall.Errno {
		if end := int64(offset + size); end > int64(len(f.file.data)) {
			f.file.resize(end)
		}
		return 0
	})
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
