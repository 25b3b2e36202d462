package crashfs

import (
	"maps"
	"slices"
)

// inode is a file or a directory. A file has the contents that programs see, those that are durable, and the changes between the two.
type inode struct {
	dir *dir // nil for a file

	contents []byte
	durable  []byte
	// changes is never changed in place: a Moment shares it.
	changes  []change
	reserved int64

	// Contents that another inode, or the other field, refers to as well are copied before they are changed.
	contentsShared, durableShared bool
}

// change is one unsynced change of a file: a write of bytes at offset, or, where bytes is nil, a truncation to offset.
type change struct {
	offset int64
	bytes  []byte
	// clean is set once a sync failed: no later one makes the change durable.
	clean bool
}

// apply makes changes to the contents.
func (n *inode) apply(c change) {
	if n.contentsShared {
		n.contents, n.contentsShared = slices.Clone(n.contents), false
	}
	n.contents = c.apply(n.contents)
}

// change makes a change that programs see and that is not durable.
func (n *inode) change(c change) {
	n.changes = append(n.changes, c)
	n.apply(c)
}

// sync makes the changes durable; where it failed, they stay as they are for good.
func (n *inode) sync(ok bool) {
	if len(n.changes) == 0 {
		return
	}
	var left []change
	for _, c := range n.changes {
		switch {
		case c.clean:
			left = append(left, c)
		case !ok:
			c.clean = true
			left = append(left, c)
		default:
			if n.durableShared {
				n.durable, n.durableShared = slices.Clone(n.durable), false
			}
			n.durable = c.apply(n.durable)
		}
	}
	n.changes = left
}

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

// dir is a directory: the names that programs see, those that are durable, and the changes between the two.
type dir struct {
	names   map[string]*inode
	durable map[string]*inode
	// changes is never changed in place: a Moment shares it.
	changes []nameChange
}

func newDir() *inode {
	return &inode{dir: &dir{names: map[string]*inode{}, durable: map[string]*inode{}}}
}

// nameChange is one unsynced change of a directory: a name put in (new), taken out (old), or, in a rename, both.
type nameChange struct {
	old, new string
	node     *inode
	// clean is set once a SyncDir failed: no later one makes the change durable.
	clean bool
}

// change makes a change that programs see and that is not durable.
func (d *dir) change(c nameChange) {
	d.changes = append(d.changes, c)
	c.apply(d.names)
}

// sync makes the changes durable; where it failed, they stay as they are for good.
func (d *dir) sync(ok bool) {
	if len(d.changes) == 0 {
		return
	}
	var left []nameChange
	for _, c := range d.changes {
		switch {
		case c.clean:
			left = append(left, c)
		case !ok:
			c.clean = true
			left = append(left, c)
		default:
			c.apply(d.durable)
		}
	}
	d.changes = left
}

// apply makes the change to a directory's names, whichever of those before it were made.
func (c *nameChange) apply(names map[string]*inode) {
	if c.old != "" && names[c.old] == c.node {
		delete(names, c.old)
	}
	if c.new != "" {
		maps.DeleteFunc(names, func(_ string, n *inode) bool { return n == c.node })
		names[c.new] = c.node
	}
}
