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
	fsys         vfs.FS
	root         string
	direct       bool
	rowGroupRows int

	lanes  lanes
	output *output
	ends   []int // of row groups

	// durableDirs are directories whose names, up to the root's, survive a power cut.
	durableDirs map[string]struct{}
	pending     []manifest.File
}

// write encodes rows, which belong to one partition, into a temporary file, syncs it and reads it back.
func (w *writer) write(ctx context.Context, p partition, rows *fileRows) error {
	f := describe(p, rows)
	name := w.absolute(f.Path)
	if err := w.makeDir(path.Dir(f.Path)); err != nil {
		return err
	}
	temp := tempName(name)
	want, err := w.writeTemp(ctx, temp, p, rows)
	if err != nil {
		return errors.Join(err, w.fsys.Remove(temp))
	}
	if err := verify(w.lanes, w.fsys, temp, w.direct, want); err != nil {
		return err
	}
	f.Bytes, f.CRC32C = want.sizeBytes, manifest.FormatChecksum(want.crc32c)
	w.pending = append(w.pending, f)
	return nil
}

// describe returns the manifest's entry, apart from size and checksum.
func describe(p partition, rows *fileRows) manifest.File {
	first := &rows.refs[0]
	f := manifest.File{
		Tenant: p.tenant, Endpoint: p.endpoint, Mixed: p.endpoint == "", Rows: int64(len(rows.refs)),
		FirstLSN: first.LSN, LastLSN: first.LSN, MinTimeUnixNano: first.TimeUnixNano, MaxTimeUnixNano: first.TimeUnixNano,
	}
	for i := range rows.refs {
		ref := &rows.refs[i]
		f.FirstLSN, f.LastLSN = min(f.FirstLSN, ref.LSN), max(f.LastLSN, ref.LSN)
		f.MinTimeUnixNano = min(f.MinTimeUnixNano, ref.TimeUnixNano)
		f.MaxTimeUnixNano = max(f.MaxTimeUnixNano, ref.TimeUnixNano)
	}
	f.Path = p.path(f.FirstLSN, f.LastLSN)
	return f
}

func (w *writer) writeTemp(ctx context.Context, temp string, p partition, rows *fileRows) (want *written, err error) {
	flags := os.O_CREATE | os.O_TRUNC | os.O_WRONLY
	if w.direct {
		flags |= vfs.Direct
	}
	file, err := w.fsys.OpenFile(temp, flags, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w.output.reset(file, w.direct)
	if want, err = w.encode(ctx, rows, p.endpoint == ""); err != nil {
		return nil, err
	}
	want.sizeBytes, want.crc32c, err = w.output.finish()
	return want, err
}

// encode writes a whole file to the output. Row groups are encoded side by side and written in their order.
func (w *writer) encode(ctx context.Context, rows *fileRows, mixed bool) (*written, error) {
	w.ends = rows.rowGroupEnds(w.rowGroupRows, w.ends[:0])
	want := &written{rows: rows, ends: w.ends, groups: make([]extent, len(w.ends))}
	footer := newFooter(mixed)
	var err error
	if want.head, err = w.output.writeExtent([]byte(magic)); err != nil {
		return nil, err
	}
	turns := newTurns()
	err = w.lanes.each(len(w.ends), func(lane *lane, i int) error {
		begin := 0
		if i > 0 {
			begin = w.ends[i-1]
		}
		part := rows.slice(begin, w.ends[i])
		group, err := lane.encoder.encode(ctx, &part)
		if err != nil {
			turns.abandon()
			return err
		}
		return turns.take(i, func() (err error) {
			footer.add(group, w.output.offset())
			want.groups[i], err = w.output.writeExtent(lane.encoder.out)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	encoder := w.lanes[0].encoder
	if err := footer.encode(encoder, w.output.offset()); err != nil {
		return nil, err
	}
	want.tail, err = w.output.writeExtent(encoder.out)
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
