package crashfs

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// Kind is what an operation does.
type Kind string

// The operations that change something, or make a change durable.
const (
	Create   Kind = "create"
	Write    Kind = "write"
	Truncate Kind = "truncate"
	Reserve  Kind = "preallocate"
	Sync     Kind = "sync"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	Mkdir    Kind = "mkdir"
	SyncDir  Kind = "syncdir"
)

// Op is an operation that is about to happen.
type Op struct {
	Kind   Kind
	Name   string // the old one of a rename
	Offset int64  // of a write
	Length int64  // of a write; the size of a truncation or preallocation
}

// FS is the file system. It is safe for concurrent use.
type FS struct {
	mu       sync.Mutex
	root     *inode
	before   func(Op) error
	capacity int64 // bytes of all files; 0 is no bound
}

var _ vfs.FS = (*FS)(nil)

// New returns an empty file system with a root directory, in which relative and absolute names are the same.
func New() *FS { return &FS{root: newDir()} }

// Before installs a hook that runs before each operation; an error from it is the operation's. It may call Crash and Freeze, but no
// other method. It is not called concurrently if the file system is not.
func (f *FS) Before(hook func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = hook
}

// SetCapacity bounds the bytes of all files, space reserved for them included; beyond it operations fail with ENOSPC. 0 is
// no bound.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// begin runs the hook, then takes the lock.
func (f *FS) begin(op Op) error {
	f.mu.Lock()
	if f.before == nil {
		return nil
	}
	hook := f.before
	f.mu.Unlock()
	if err := hook(op); err != nil {
		return &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: err}
	}
	f.mu.Lock()
	return nil
}

// clean makes a name relative to the root; that of the root is empty.
func clean(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "." {
		return ""
	}
	return name
}

// find returns the file or directory of a clean name; nil where there is none.
func (f *FS) find(name string) *inode {
	node := f.root
	for name != "" && node != nil {
		if node.dir == nil {
			return nil
		}
		var base string
		base, name, _ = strings.Cut(name, "/")
		node = node.dir.names[base]
	}
	return node
}

// split finds the directory of a name.
func (f *FS) split(op Kind, name string) (*dir, string, error) {
	parent, base := path.Split(clean(name))
	node := f.find(strings.TrimSuffix(parent, "/"))
	if node == nil || node.dir == nil || base == "" {
		return nil, "", &fs.PathError{Op: string(op), Path: name, Err: fs.ErrNotExist}
	}
	return node.dir, base, nil
}

// OpenFile implements vfs.FS. Access modes are not enforced.
func (f *FS) OpenFile(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	f.mu.Lock()
	d, base, err := f.split("open", name)
	if err != nil {
		f.mu.Unlock()
		return nil, err
	}
	node := d.names[base]
	f.mu.Unlock()
	switch {
	case node == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case node != nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case node != nil && node.dir != nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	case node == nil:
		if err := f.begin(Op{Kind: Create, Name: name}); err != nil {
			return nil, err
		}
		node = &inode{}
		d.change(nameChange{new: base, node: node})
		f.mu.Unlock()
	}
	file := &file{fs: f, name: name, node: node}
	if flag&os.O_TRUNC != 0 && len(node.contents) > 0 {
		if err := file.Truncate(0); err != nil {
			return nil, err
		}
	}
	return file, nil
}

// Rename implements vfs.FS. Both names must be in one directory.
func (f *FS) Rename(oldName, newName string) error {
	if err := f.begin(Op{Kind: Rename, Name: oldName}); err != nil {
		return err
	}
	defer f.mu.Unlock()
	d, oldBase, err := f.split(Rename, oldName)
	if err != nil {
		return err
	}
	to, newBase, err := f.split(Rename, newName)
	if err != nil {
		return err
	}
	node := d.names[oldBase]
	if node == nil {
		return &fs.PathError{Op: string(Rename), Path: oldName, Err: fs.ErrNotExist}
	}
	if d != to {
		return &fs.PathError{Op: string(Rename), Path: newName, Err: syscall.EXDEV}
	}
	d.change(nameChange{old: oldBase, new: newBase, node: node})
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	d, base, err := f.split(Remove, name)
	var node *inode
	if err == nil {
		node = d.names[base]
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		return err
	case node == nil:
		return &fs.PathError{Op: string(Remove), Path: name, Err: fs.ErrNotExist}
	case node.dir != nil && len(node.dir.names) > 0:
		return &fs.PathError{Op: string(Remove), Path: name, Err: syscall.ENOTEMPTY}
	}
	if err := f.begin(Op{Kind: Remove, Name: name}); err != nil {
		return err
	}
	defer f.mu.Unlock()
	d.change(nameChange{old: base, node: node})
	return nil
}

// List implements vfs.FS.
func (f *FS) List(name string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.find(clean(name))
	if node == nil || node.dir == nil {
		return nil, &fs.PathError{Op: "list", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Sorted(maps.Keys(node.dir.names)), nil
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(name string, _ fs.FileMode) error {
	full := clean(name)
	for end := 0; end < len(full); {
		if next := strings.IndexByte(full[end+1:], '/'); next >= 0 {
			end += 1 + next
		} else {
			end = len(full)
		}
		f.mu.Lock()
		node := f.find(full[:end])
		f.mu.Unlock()
		if node != nil && node.dir == nil {
			return &fs.PathError{Op: string(Mkdir), Path: name, Err: syscall.ENOTDIR}
		}
		if node != nil {
			continue
		}
		if err := f.begin(Op{Kind: Mkdir, Name: full[:end]}); err != nil {
			return err
		}
		d, base, err := f.split(Mkdir, full[:end])
		if err == nil {
			d.change(nameChange{new: base, node: newDir()})
		}
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(name string) error {
	err := f.begin(Op{Kind: SyncDir, Name: name})
	if err != nil {
		f.mu.Lock()
	}
	defer f.mu.Unlock()
	node := f.find(clean(name))
	if node == nil || node.dir == nil {
		return &fs.PathError{Op: string(SyncDir), Path: name, Err: fs.ErrNotExist}
	}
	node.dir.sync(err == nil)
	return err
}

// SizeBytes implements vfs.FS.
func (f *FS) SizeBytes(name string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.find(clean(name))
	if node == nil || node.dir != nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return int64(len(node.contents)), nil
}

// used is the bytes that all files below a directory take or have reserved.
func (n *inode) used() int64 {
	if n.dir == nil {
		return max(int64(len(n.contents)), n.reserved)
	}
	var sum int64
	for _, below := range n.dir.names {
		sum += below.used()
	}
	return sum
}

// grow checks that a file may take size bytes.
func (f *FS) grow(op Kind, name string, node *inode, size int64) error {
	have := max(int64(len(node.contents)), node.reserved)
	if f.capacity > 0 && size > have && f.root.used()+size-have > f.capacity {
		return &fs.PathError{Op: string(op), Path: name, Err: syscall.ENOSPC}
	}
	return nil
}
