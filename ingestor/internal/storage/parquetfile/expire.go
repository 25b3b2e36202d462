package parquetfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/retention"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
)

const (
	// DefaultDeleteAfter is how long a file outlives its line in the manifest, for readers that have read the manifest before.
	DefaultDeleteAfter = 10 * time.Minute
	// expireFiles bounds the files of one edit, and with it the length of a line of the manifest.
	expireFiles = 1000
)

// Expire takes the files out of the manifest of which every row is older than its tenant's cutoff. They are removed from the disk when
// DeleteAfter has passed since, by a later call, or at the next start. A file with a single younger row stays.
//
// It may run beside Flush, but only once at a time. A full disk leaves everything as it was.
func (s *Sink) Expire(ctx context.Context, cutoffs retention.Cutoffs) (rows int64, err error) {
	err = s.dead.remove(time.Now().Add(-s.opts.DeleteAfter), func(path string) error { return s.opts.FS.Remove(s.writer.absolute(path)) })
	if err != nil {
		return 0, fmt.Errorf("parquetfile: remove a file that has expired: %w", err)
	}
	var paths []string
	var chunkRows int64
	commit := func() error {
		if len(paths) == 0 {
			return nil
		}
		if err := s.opts.Manifest.Commit(manifest.Edit{RemoveFiles: paths}); err != nil {
			return fmt.Errorf("parquetfile: expire files: %w", err)
		}
		s.dead.add(paths, time.Now())
		rows += chunkRows
		paths, chunkRows = nil, 0
		return nil
	}
	for _, f := range s.opts.Manifest.State().SortedFiles() {
		cutoff := cutoffs.Of(f.Tenant)
		if cutoff == nil || f.MaxTimeUnixNano >= cutoff.UnixNano() {
			continue
		}
		paths, chunkRows = append(paths, f.Path), chunkRows+f.Rows
		if len(paths) < expireFiles {
			continue
		}
		if err := errors.Join(ctx.Err(), commit()); err != nil {
			return rows, err
		}
	}
	return rows, commit()
}

// graveyard holds files that the manifest does not list any more and the disk still has, oldest first.
type graveyard struct {
	mu    sync.Mutex
	files []deadFile
}

type deadFile struct {
	path  string
	since time.Time
}

func (g *graveyard) add(paths []string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, path := range paths {
		g.files = append(g.files, deadFile{path, now})
	}
}

// remove calls fn for each file that has been here since before. What fn fails for stays.
func (g *graveyard) remove(before time.Time, fn func(path string) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.files) > 0 && !g.files[0].since.After(before) {
		if err := fn(g.files[0].path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		g.files = g.files[1:]
	}
	return nil
}
