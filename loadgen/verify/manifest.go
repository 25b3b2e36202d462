package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

	Flushed      map[string]uint64 `json:"flushed"`
	LowWatermark uint64            `json:"low_watermark"`
	WALID        string            `json:"wal_id"`
}

// Manifest is what a manifest says, apart from the files.
type Manifest struct {
	// Flushed is the last LSN that each sink holds, by the sink's name.
	Flushed map[string]uint64
	// LowWatermark is the last LSN that the log need not hold.
	LowWatermark uint64
	// WALID names the log, as 32 hexadecimal digits; empty until there is one.
	WALID string

	files map[string]listedFile
}

// ReadManifest reads the manifest of a data directory whose server has ended. One that does not exist says nothing.
func ReadManifest(dataDir string) (*Manifest, error) { return readManifest(dataDir) }

func (m *Manifest) apply(edit *manifestEdit) (twice string) {
	for _, path := range edit.RemoveFiles {
		delete(m.files, path)
	}
	for _, f := range edit.AddFiles {
		if _, ok := m.files[f.Path]; ok {
			return f.Path
		}
		m.files[f.Path] = f
	}
	maps.Copy(m.Flushed, edit.Flushed)
	m.LowWatermark = max(m.LowWatermark, edit.LowWatermark)
	if edit.WALID != "" {
		m.WALID = edit.WALID
	}
	return ""
}

// readManifest reads the manifest of a data directory. The last line may be torn. A directory without a manifest lists nothing.
func readManifest(dataDir string) (*Manifest, error) {
	m := &Manifest{Flushed: make(map[string]uint64), files: make(map[string]listedFile)}
	content, err := os.ReadFile(filepath.Join(dataDir, manifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	last := uint64(0)
	for number := 1; len(content) > 0; number++ {
		text, rest, whole := bytes.Cut(content, []byte("\n"))
		edit, err := parseEdit(text)
		if err == nil && !whole {
			err = errors.New("the line has no end")
		}
		switch {
		case err != nil && number > 1 && isTorn(content, rest):
			return m, nil
		case err != nil:
			return nil, fmt.Errorf("verify: line %d of %s: %w", number, manifestPath, err)
		case edit.Snapshot && edit.Format != manifestFormat:
			return nil, fmt.Errorf("verify: %s has format %d, which is not known", manifestPath, edit.Format)
		case edit.Snapshot != (number == 1), number > 1 && edit.Seq != last+1:
			return nil, fmt.Errorf("verify: line %d of %s does not follow the one before", number, manifestPath)
		}
		if path := m.apply(&edit); path != "" {
			return nil, fmt.Errorf("verify: line %d of %s adds %s a second time", number, manifestPath, path)
		}
		last, content = edit.Seq, rest
	}
	return m, nil
}

// isTorn tells whether a tail that begins with a wrong line is what a crash leaves of the last one: nothing follows the line, or sectors of it are
// zeros or garbage, which may hold line breaks. A right line after a wrong one is damage.
func isTorn(tail, rest []byte) bool {
	if len(bytes.TrimRight(rest, "\x00")) == 0 {
		return true
	}
	for line := range bytes.SplitSeq(rest, []byte("\n")) {
		if _, err := parseEdit(line); err == nil {
			return false
		}
	}
	return bytes.ContainsFunc(tail, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') })
}

// list returns the files that exist, by path.
func (m *Manifest) list() []listedFile {
	return slices.SortedFunc(maps.Values(m.files), func(a, b listedFile) int { return strings.Compare(a.Path, b.Path) })
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
