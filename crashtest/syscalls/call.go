//go:build linux && amd64

package syscalls

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// call is a system call that works on a file.
type call struct {
	name string
	nr   uint32
	// fdArg is the argument that holds a descriptor; -1 where pathArg is the one that points to a path.
	fdArg, pathArg int
}

// calls are those that the server may make on files, beside close.
var calls = []call{
	{"openat", unix.SYS_OPENAT, -1, 1},
	{"mkdirat", unix.SYS_MKDIRAT, -1, 1},
	{"renameat", unix.SYS_RENAMEAT, -1, 1},
	{"renameat2", unix.SYS_RENAMEAT2, -1, 1},
	{"unlinkat", unix.SYS_UNLINKAT, -1, 1},
	{"newfstatat", unix.SYS_NEWFSTATAT, -1, 1},
	{"fstat", unix.SYS_FSTAT, 0, -1},
	{"read", unix.SYS_READ, 0, -1},
	{"pread64", unix.SYS_PREAD64, 0, -1},
	{"write", unix.SYS_WRITE, 0, -1},
	{"pwrite64", unix.SYS_PWRITE64, 0, -1},
	{"pwritev", unix.SYS_PWRITEV, 0, -1},
	{"fsync", unix.SYS_FSYNC, 0, -1},
	{"fdatasync", unix.SYS_FDATASYNC, 0, -1},
	{"sync_file_range", unix.SYS_SYNC_FILE_RANGE, 0, -1},
	{"ftruncate", unix.SYS_FTRUNCATE, 0, -1},
	{"fallocate", unix.SYS_FALLOCATE, 0, -1},
	{"getdents64", unix.SYS_GETDENTS64, 0, -1},
	{"flock", unix.SYS_FLOCK, 0, -1},
}

func callOf(nr int32) (call, bool) {
	for _, c := range calls {
		if c.nr == uint32(nr) {
			return c, true
		}
	}
	return call{}, false
}

// callWrites says whether a call returns how much it has written of its third argument.
func callWrites(nr int32) bool { return nr == unix.SYS_WRITE || nr == unix.SYS_PWRITE64 }

// Site is a call on one kind of file.
type Site struct{ Call, File string }

func (s Site) String() string { return s.Call + " of " + s.File }

// Kinds of files. Directories are kinds of their own.
const (
	segment  = "a segment"
	spare    = "a spare segment"
	manifest = "the manifest"
	dedupe   = "a dedupe snapshot"
	parquet  = "a Parquet file"
)

// fileKind names the kind of a file by its path relative to the data directory, as the server's documentation gives it.
func fileKind(path string) string {
	path = strings.TrimSuffix(path, " (deleted)")
	top, rest, below := strings.Cut(path, "/")
	base := filepath.Base(rest)
	switch {
	case path == ".":
		return "the data directory"
	case !below:
		return top + "/" // one of the directories, or a file beside them
	case top == "wal" && strings.HasSuffix(base, ".wal"):
		return segment
	case top == "wal" && strings.HasPrefix(base, "spare-"):
		return spare
	case top == "wal":
		return "another file of the log"
	case top == "manifest" && strings.HasPrefix(base, "dedupe-"):
		return dedupe
	case top == "manifest":
		return manifest
	case top == "parquet" && strings.Contains(base, ".parquet"):
		return parquet
	case top == "parquet":
		return "a directory of Parquet files"
	}
	return "a file in " + top + "/"
}

// Kind is what happens instead of a call.
type Kind int

// The kinds.
const (
	Kill Kind = iota
	EIO
	ENOSPC
	// kinds is how many there are.
	kinds
	// lie is a success that is answered without the call being made: what the judge must find.
	lie
	// pass is that the call is made.
	pass
)

func (k Kind) String() string { return [...]string{"SIGKILL", "EIO", "ENOSPC", "", "a lie"}[k] }

// Fault is what happens to one call: the N-th of a site, counted from 1 over all threads and lives of the server.
type Fault struct {
	Site
	N    int
	Kind Kind
}

func (f Fault) String() string { return fmt.Sprintf("%s at %s number %d", f.Kind, f.Site, f.N) }
