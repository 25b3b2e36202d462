package parquetfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// prepareDir makes the directory, removes files that the manifest does not list and checks that those it lists are there.
func (s *Sink) prepareDir() error {
	if err := s.opts.FS.MkdirAll(s.opts.Dir, 0o755); err != nil {
		return err
	}
	if err := s.opts.FS.SyncDir(filepath.Dir(s.opts.Dir)); err != nil {
		return err
	}
	state := s.opts.Manifest.State()
	removed := 0
	err := walk(s.opts.FS, s.opts.Dir, func(relative string) error {
		if _, listed := state.Files[relative]; listed {
			return nil
		}
		removed++
		return s.opts.FS.Remove(s.writer.absolute(relative))
	})
	if err != nil {
		return err
	}
	if removed > 0 {
		s.opts.Logger.Info("parquetfile: removed files that were never committed", "files", removed)
	}
	for _, f := range state.Files {
		name := s.writer.absolute(f.Path)
		size, err := s.opts.FS.SizeBytes(name)
		if err != nil {
			return fmt.Errorf("parquetfile: a file of the manifest cannot be found: %w", err)
		}
		if size != f.Bytes {
			return &MismatchError{Path: name, Reason: fmt.Sprintf("%d bytes, the manifest says %d", size, f.Bytes)}
		}
	}
	return nil
}

// CheckEmpty returns an error where dir holds Parquet files. It is meant for manifest.Options.BeforeCreate: files without
// a manifest mean that the manifest was lost, and Open under an empty one would remove them all.
func CheckEmpty(fsys vfs.FS, dir string) error {
	err := walk(fsys, dir, func(relative string) error {
		return fmt.Errorf("parquetfile: there is no manifest, but %s holds %s; restore the manifest, or move the files away",
			dir, relative)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// levels are the prefixes of the directories' names, from the root downwards.
var levels = [...]string{tenantPrefix, endpointPrefix, datePrefix, hourPrefix}

// walk calls visit for every Parquet file below dir, temporary ones included, with its path relative to dir. Files and
// directories with other names are left alone.
func walk(fsys vfs.FS, dir string, visit func(relative string) error) error {
	return walkLevel(fsys, dir, ".", 0, visit)
}

func walkLevel(fsys vfs.FS, root, dir string, level int, visit func(string) error) error {
	names, err := fsys.List(filepath.Join(root, filepath.FromSlash(dir)))
	if err != nil {
		return err
	}
	for _, name := range names {
		below := path.Join(dir, name)
		switch {
		case level < len(levels) && strings.HasPrefix(name, levels[level]):
			err = walkLevel(fsys, root, below, level+1, visit)
		case level == len(levels) && (strings.HasSuffix(name, fileSuffix) || strings.HasSuffix(name, tempSuffix)):
			err = visit(below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
