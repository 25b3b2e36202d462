package parquetfile

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// maxKnownDirs bounds the memory of directories whose names are known to be durable.
const maxKnownDirs = 1 << 16

// writer makes the files of one generation: write stores each under a temporary name and reads it back, publish then gives
// all of them their names. It belongs to one goroutine.
type writer struct {
	fsys   vfs.FS
	root   string
	direct bool

	plain, mixed *encoder
	output       *output
	verifier     *verifier

	// durableDirs are directories whose names, up to the root's, survive a power cut.
	durableDirs map[string]struct{}
	pending     []manifest.File
}

// write encodes parts, the rows of one partition, into a temporary file, syncs it and reads it back.
func (w *writer) write(ctx context.Context, p partition, parts []part) error {
	f := describe(p, parts)
	name := w.absolute(f.Path)
	if err := w.makeDir(path.Dir(f.Path)); err != nil {
		return err
	}
	temp := tempName(name)
	want, err := w.writeTemp(ctx, temp, p, parts)
	if err != nil {
		return errors.Join(err, w.fsys.Remove(temp))
	}
	want.rows = f.Rows
	if err := w.verifier.verify(w.fsys, temp, want); err != nil {
		return err
	}
	f.Bytes, f.CRC32C = want.sizeBytes, manifest.FormatChecksum(want.crc32c)
	w.pending = append(w.pending, f)
	return nil
}

// describe returns the manifest's entry, apart from size and checksum.
func describe(p partition, parts []part) manifest.File {
	f := manifest.File{Tenant: p.tenant, Endpoint: p.endpoint, Mixed: p.endpoint == ""}
	for i := range parts {
		for j := range parts[i].rows.Refs {
			ref := &parts[i].rows.Refs[j]
			if f.Rows == 0 {
				f.FirstLSN, f.LastLSN = ref.LSN, ref.LSN
				f.MinTimeUnixNano, f.MaxTimeUnixNano = ref.TimeUnixNano, ref.TimeUnixNano
			}
			f.FirstLSN, f.LastLSN = min(f.FirstLSN, ref.LSN), max(f.LastLSN, ref.LSN)
			f.MinTimeUnixNano = min(f.MinTimeUnixNano, ref.TimeUnixNano)
			f.MaxTimeUnixNano = max(f.MaxTimeUnixNano, ref.TimeUnixNano)
			f.Rows++
		}
	}
	f.Path = p.path(f.FirstLSN, f.LastLSN)
	return f
}

func (w *writer) writeTemp(ctx context.Context, temp string, p partition, parts []part) (want written, err error) {
	flags := os.O_CREATE | os.O_TRUNC | os.O_WRONLY
	if w.direct {
		flags |= vfs.Direct
	}
	file, err := w.fsys.OpenFile(temp, flags, 0o644)
	if err != nil {
		return want, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w.output.reset(file, w.direct)
	encoder := w.plain
	if p.endpoint == "" {
		encoder = w.mixed
	}
	if want.digest, err = encoder.encode(ctx, w.output, p.tenant, parts); err != nil {
		return want, err
	}
	want.sizeBytes, want.crc32c, err = w.output.finish()
	return want, err
}

// makeDir makes a directory below the root, and the names that lead to it durable. The files in it are not its business.
func (w *writer) makeDir(dir string) error {
	if _, ok := w.durableDirs[dir]; ok || dir == "." {
		return nil
	}
	parent := path.Dir(dir)
	if err := w.makeDir(parent); err != nil {
		return err
	}
	if err := w.fsys.MkdirAll(w.absolute(dir), 0o755); err != nil {
		return err
	}
	if err := w.fsys.SyncDir(w.absolute(parent)); err != nil {
		return fatalError{err}
	}
	if len(w.durableDirs) >= maxKnownDirs {
		clear(w.durableDirs)
	}
	w.durableDirs[dir] = struct{}{}
	return nil
}

// publish gives the pending files their names and makes those durable. It returns the files, which a manifest commit may
// list from then on.
func (w *writer) publish() ([]manifest.File, error) {
	dirs := make(map[string]struct{})
	for i := range w.pending {
		name := w.absolute(w.pending[i].Path)
		if err := w.fsys.Rename(tempName(name), name); err != nil {
			return nil, err
		}
		dirs[filepath.Dir(name)] = struct{}{}
	}
	for dir := range dirs {
		if err := w.fsys.SyncDir(dir); err != nil {
			return nil, fatalError{err}
		}
	}
	files := w.pending
	w.pending = nil
	return files, nil
}

// discard removes what is pending, under whichever name, as far as that can be done. What stays is removed at the next start.
func (w *writer) discard() {
	for i := range w.pending {
		name := w.absolute(w.pending[i].Path)
		_ = w.fsys.Remove(tempName(name))
		_ = w.fsys.Remove(name)
	}
	w.pending = nil
}

func (w *writer) absolute(relative string) string {
	return filepath.Join(w.root, filepath.FromSlash(relative))
}

// tempName returns the temporary name of a file. It ends in tempSuffix.
func tempName(name string) string { return name + ".tmp" }

func openRead(fsys vfs.FS, name string) (vfs.File, error) { return fsys.OpenFile(name, os.O_RDONLY, 0) }
