package crashfs

import (
	"io"
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
	dirs     map[string]*dir
	before   func(Op) error
	capacity int64 // bytes of all files; 0 is no bound
}

var _ vfs.FS = (*FS)(nil)

// dir is a directory: the names that programs see, those that are durable, and the changes between the two.
type dir struct {
	names   map[string]*inode
	durable map[string]*inode
	changes []nameChange
}

// nameChange is one unsynced change of a directory: a name put in (new), taken out (old), or, in a rename, both.
type nameChange struct {
	old, new string
	node     *inode
	// clean is set once a SyncDir failed: no later one makes the change durable.
	clean bool
}

// inode is a file: the contents that programs see, those that are durable, and the changes between the two.
type inode struct {
	contents []byte
	durable  []byte
	changes  []change
	reserved int64

	// Contents that another inode, or the other field, refers to as well are copied before they are changed.
	contentsShared, durableShared bool
}

// apply makes changes to the contents.
func (n *inode) apply(changes ...change) {
	if n.contentsShared {
		n.contents, n.contentsShared = slices.Clone(n.contents), false
	}
	for _, c := range changes {
		n.contents = c.apply(n.contents)
	}
}

// applyDurably makes changes to what is durable.
func (n *inode) applyDurably(c change) {
	if n.durableShared {
		n.durable, n.durableShared = slices.Clone(n.durable), false
	}
	n.durable = c.apply(n.durable)
}

// change is one unsynced change of a file: a write of bytes at offset, or, where bytes is nil, a truncation to offset.
type change struct {
	offset int64
	bytes  []byte
	clean  bool
}

// New returns an empty file system with a root directory, in which relative and absolute names are the same.
func New() *FS { return &FS{dirs: map[string]*dir{".": newDir()}} }

func newDir() *dir { return &dir{names: map[string]*inode{}, durable: map[string]*inode{}} }

// Before installs a hook that runs before each operation; an error from it is the operation's. It may call Crash, but no
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
	hook := f.before
	f.mu.Unlock()
	if hook != nil {
		if err := hook(op); err != nil {
			return &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: err}
		}
	}
	f.mu.Lock()
	return nil
}

// clean makes a name relative to the root.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// split finds the directory of a name.
func (f *FS) split(op Kind, name string) (*dir, string, error) {
	parent, base := path.Split(clean(name))
	d := f.dirs[key(parent)]
	if d == nil {
		return nil, "", &fs.PathError{Op: string(op), Path: name, Err: fs.ErrNotExist}
	}
	return d, base, nil
}

// key is a directory's key in FS.dirs.
func key(name string) string { return path.Clean(clean(name)) }

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
	case node == nil:
		if err := f.begin(Op{Kind: Create, Name: name}); err != nil {
			return nil, err
		}
		node = &inode{}
		d.names[base] = node
		d.changes = append(d.changes, nameChange{new: base, node: node})
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
	delete(d.names, oldBase)
	d.names[newBase] = node
	d.changes = append(d.changes, nameChange{old: oldBase, new: newBase, node: node})
	return nil
}

// Remove implements vfs.FS for files.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	d, base, err := f.split(Remove, name)
	missing := err == nil && d.names[base] == nil
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if missing {
		return f.removeDir(name)
	}
	if err := f.begin(Op{Kind: Remove, Name: name}); err != nil {
		return err
	}
	defer f.mu.Unlock()
	d.changes = append(d.changes, nameChange{old: base, node: d.names[base]})
	delete(d.names, base)
	return nil
}

// removeDir removes an empty directory, durably at once.
func (f *FS) removeDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.dirs[key(name)]
	if d == nil || len(d.names) > 0 {
		return &fs.PathError{Op: string(Remove), Path: name, Err: fs.ErrNotExist}
	}
	delete(f.dirs, key(name))
	return nil
}

// List implements vfs.FS.
func (f *FS) List(name string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.dirs[key(name)]
	if d == nil {
		return nil, &fs.PathError{Op: "list", Path: name, Err: fs.ErrNotExist}
	}
	var names []string
	for n := range d.names {
		names = append(names, n)
	}
	for other := range f.dirs {
		if other != "." && key(path.Dir(other)) == key(name) {
			names = append(names, path.Base(other))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll implements vfs.FS. Directories, unlike files, are durable at once.
func (f *FS) MkdirAll(name string, _ fs.FileMode) error {
	for at := key(name); at != "."; at = key(path.Dir(at)) {
		f.mu.Lock()
		exists := f.dirs[at] != nil
		f.mu.Unlock()
		if exists {
			continue
		}
		if err := f.begin(Op{Kind: Mkdir, Name: at}); err != nil {
			return err
		}
		f.dirs[at] = newDir()
		f.mu.Unlock()
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
	d := f.dirs[key(name)]
	if d == nil {
		return &fs.PathError{Op: string(SyncDir), Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		for i := range d.changes {
			d.changes[i].clean = true
		}
		return err
	}
	dirty := slices.DeleteFunc(slices.Clone(d.changes), func(c nameChange) bool { return c.clean })
	applyNames(d.durable, dirty)
	d.changes = slices.DeleteFunc(d.changes, func(c nameChange) bool { return !c.clean })
	return nil
}

// applyNames makes changes to a directory's names.
func applyNames(names map[string]*inode, changes []nameChange) {
	for _, c := range changes {
		if c.old != "" && names[c.old] == c.node {
			delete(names, c.old)
		}
		if c.new != "" {
			maps.DeleteFunc(names, func(_ string, n *inode) bool { return n == c.node })
			names[c.new] = c.node
		}
	}
}

// SizeBytes implements vfs.FS.
func (f *FS) SizeBytes(name string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.split("stat", name)
	if err != nil {
		return 0, err
	}
	if d.names[base] == nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return int64(len(d.names[base].contents)), nil
}

// used is the bytes that all files take or have reserved.
func (f *FS) used() int64 {
	var sum int64
	for _, d := range f.dirs {
		for _, n := range d.names {
			sum += max(int64(len(n.contents)), n.reserved)
		}
	}
	return sum
}

// grow checks that a file may take size bytes.
func (f *FS) grow(op Kind, name string, node *inode, size int64) error {
	have := max(int64(len(node.contents)), node.reserved)
	if f.capacity > 0 && size > have && f.used()+size-have > f.capacity {
		return &fs.PathError{Op: string(op), Path: name, Err: syscall.ENOSPC}
	}
	return nil
}

// file is an open file.
type file struct {
	fs   *FS
	name string
	node *inode
}

var _ vfs.File = (*file)(nil)

func (f *file) ReadAt(b []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if offset >= int64(len(f.node.contents)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.contents[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, offset int64) (int, error) {
	if err := f.fs.begin(Op{Kind: Write, Name: f.name, Offset: offset, Length: int64(len(b))}); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if err := f.fs.grow(Write, f.name, f.node, offset+int64(len(b))); err != nil {
		return 0, err
	}
	c := change{offset: offset, bytes: slices.Clone(b)}
	f.node.changes = append(f.node.changes, c)
	f.node.apply(c)
	return len(b), nil
}

func (f *file) Truncate(sizeBytes int64) error {
	if err := f.fs.begin(Op{Kind: Truncate, Name: f.name, Length: sizeBytes}); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if err := f.fs.grow(Truncate, f.name, f.node, sizeBytes); err != nil {
		return err
	}
	c := change{offset: sizeBytes}
	f.node.changes = append(f.node.changes, c)
	f.node.apply(c)
	f.node.reserved = 0
	return nil
}

func (f *file) Preallocate(sizeBytes int64) error {
	if err := f.fs.begin(Op{Kind: Reserve, Name: f.name, Length: sizeBytes}); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if err := f.fs.grow(Reserve, f.name, f.node, sizeBytes); err != nil {
		return err
	}
	f.node.reserved = max(f.node.reserved, sizeBytes)
	return nil
}

func (f *file) Sync() error {
	err := f.fs.begin(Op{Kind: Sync, Name: f.name})
	if err != nil {
		f.fs.mu.Lock()
	}
	defer f.fs.mu.Unlock()
	n := f.node
	if err != nil {
		for i := range n.changes {
			n.changes[i].clean = true
		}
		return err
	}
	for _, c := range n.changes {
		if !c.clean {
			n.applyDurably(c)
		}
	}
	n.changes = slices.DeleteFunc(n.changes, func(c change) bool { return !c.clean })
	return nil
}

func (f *file) Datasync() error { return f.Sync() }

func (f *file) SizeBytes() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.contents)), nil
}

func (f *file) Prefetch() error { return nil }

func (f *file) Close() error { return nil }

// apply makes the change to contents and returns them.
func (c *change) apply(contents []byte) []byte {
	if c.bytes == nil {
		return resize(contents, c.offset)
	}
	if end := c.offset + int64(len(c.bytes)); end > int64(len(contents)) {
		contents = resize(contents, end)
	}
	copy(contents[c.offset:], c.bytes)
	return contents
}

// resize cuts b, or adds zeros to it.
func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	n := len(b)
	b = slices.Grow(b, int(size)-n)[:size]
	clear(b[n:])
	return b
}
