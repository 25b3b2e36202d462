package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// The places in a data directory, as its documentation gives them.
const (
	manifestPath     = "manifest/MANIFEST.jsonl"
	parquetDirectory = "parquet"
	manifestFormat   = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// listedFile is a Parquet file as the manifest describes it.
type listedFile struct {
	Path     string `json:"path"` // below the Parquet directory, with slashes
	Tenant   string `json:"tenant"`
	Endpoint string `json:"endpoint"`
	Mixed    bool   `json:"mixed"`
	FirstLSN uint64 `json:"first_lsn"`
	LastLSN  uint64 `json:"last_lsn"`
	Rows     int64  `json:"rows"`
	Bytes    int64  `json:"bytes"`
	CRC32C   string `json:"crc32c"`
}

type manifestLine struct {
	CRC32C string          `json:"crc32c"`
	Edit   json.RawMessage `json:"edit"`
}

type manifestEdit struct {
	Seq         uint64       `json:"seq"`
	Snapshot    bool         `json:"snapshot"`
	Format      int          `json:"format"` // of a snapshot
	AddFiles    []listedFile `json:"add_files"`
	RemoveFiles []string     `json:"remove_files"`
}

// readManifest returns the files that the manifest of a data directory lists, by path. The last line may be torn. A directory
// without a manifest lists nothing.
func readManifest(dataDir string) ([]listedFile, error) {
	content, err := os.ReadFile(filepath.Join(dataDir, manifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	files := make(map[string]listedFile)
	last := uint64(0)
	for number := 1; len(content) > 0; number++ {
		text, rest, whole := bytes.Cut(content, []byte("\n"))
		edit, err := parseEdit(text)
		if err == nil && !whole {
			err = errors.New("the line has no end")
		}
		switch {
		case err != nil && number > 1 && len(bytes.TrimRight(rest, "\x00")) == 0:
			return sorted(files), nil // torn
		case err != nil:
			return nil, fmt.Errorf("verify: line %d of %s: %w", number, manifestPath, err)
		case edit.Snapshot && edit.Format != manifestFormat:
			return nil, fmt.Errorf("verify: %s has format %d, which is not known", manifestPath, edit.Format)
		case edit.Snapshot != (number == 1), number > 1 && edit.Seq != last+1:
			return nil, fmt.Errorf("verify: line %d of %s does not follow the one before", number, manifestPath)
		}
		for _, path := range edit.RemoveFiles {
			delete(files, path)
		}
		for _, f := range edit.AddFiles {
			if _, ok := files[f.Path]; ok {
				return nil, fmt.Errorf("verify: line %d of %s adds %s a second time", number, manifestPath, f.Path)
			}
			files[f.Path] = f
		}
		last, content = edit.Seq, rest
	}
	return sorted(files), nil
}

func sorted(files map[string]listedFile) []listedFile {
	var list []listedFile
	for _, f := range files {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b listedFile) int {
		if a.Path < b.Path {
			return -1
		}
		return 1
	})
	return list
}

func parseEdit(text []byte) (edit manifestEdit, err error) {
	var line manifestLine
	if err := json.Unmarshal(text, &line); err != nil {
		return edit, err
	}
	if crc := fmt.Sprintf("%08x", crc32.Checksum(line.Edit, castagnoli)); crc != line.CRC32C {
		return edit, fmt.Errorf("its CRC32C is %s, it says %s", crc, line.CRC32C)
	}
	return edit, json.Unmarshal(line.Edit, &edit)
}

// unlisted counts the files below the Parquet directory that are not in the list.
func unlisted(dataDir string, listed []listedFile) (count uint64, err error) {
	known := make(map[string]bool, len(listed))
	for _, f := range listed {
		known[filepath.FromSlash(f.Path)] = true
	}
	root := filepath.Join(dataDir, parquetDirectory)
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err == nil && entry.Type().IsRegular() && !known[relative] {
			count++
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return count, nil
	}
	return count, err
}
