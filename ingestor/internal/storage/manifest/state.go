package manifest

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// LSN is a log sequence number. It counts records, from 1.
type LSN = uint64

// File is one published Parquet file.
type File struct {
	// Path is relative to the Parquet directory, with slashes.
	Path   string `json:"path"`
	Tenant string `json:"tenant"`
	// Endpoint is empty where Mixed is set.
	Endpoint string `json:"endpoint,omitempty"`
	// Mixed files hold rows of several endpoints of one tenant; the file's column endpoint_id tells them apart.
	Mixed bool `json:"mixed,omitempty"`
	// FirstLSN and LastLSN bound the LSNs of the file's rows. Rows between them may lie in other files.
	FirstLSN LSN   `json:"first_lsn"`
	LastLSN  LSN   `json:"last_lsn"`
	Rows     int64 `json:"rows"`
	Bytes    int64 `json:"bytes"`
	// The earliest and latest timestamp of the file's rows, nanoseconds since the Unix epoch.
	MinTimeUnixNano int64 `json:"min_time_unix_nano"`
	MaxTimeUnixNano int64 `json:"max_time_unix_nano"`
	// CRC32C is the Castagnoli checksum of the whole file, as 8 hexadecimal digits.
	CRC32C string `json:"crc32c"`
}

// Snapshot is a file beside the manifest that holds the dedupe table as of an LSN.
type Snapshot struct {
	Name string `json:"name"`
	// LSN is the last record that the snapshot takes into account.
	LSN   LSN   `json:"lsn"`
	Bytes int64 `json:"bytes"`
	// CRC32C is the Castagnoli checksum of the whole file, as 8 hexadecimal digits.
	CRC32C string `json:"crc32c"`
}

// Edit is a change of the State. Fields at their zero value change nothing.
type Edit struct {
	// WALID becomes the identity of the log whose LSNs the manifest speaks of: 32 hexadecimal digits.
	WALID       string   `json:"wal_id,omitempty"`
	AddFiles    []File   `json:"add_files,omitempty"`
	RemoveFiles []string `json:"remove_files,omitempty"`
	// Flushed gives, by sink, the last LSN that the sink holds durably. An LSN never decreases.
	Flushed map[string]LSN `json:"flushed,omitempty"`
	// LowWatermark is the last LSN that the log need not hold any more. It never decreases.
	LowWatermark LSN `json:"low_watermark,omitempty"`
	// Dedupe replaces the dedupe snapshot; the former one's file is removed.
	Dedupe *Snapshot `json:"dedupe,omitempty"`
}

// State is what all edits amount to.
type State struct {
	// WALID is empty until the first edit that sets it.
	WALID string
	// OwnerEpoch grows by one with every Open. A higher one fences off lower ones.
	OwnerEpoch   uint64
	Flushed      map[string]LSN
	LowWatermark LSN
	// Dedupe is nil where no snapshot was ever committed.
	Dedupe *Snapshot
	// Files holds the published files by path.
	Files map[string]File
}

func newState() State {
	return State{Flushed: map[string]LSN{}, Files: map[string]File{}}
}

func (s *State) clone() State {
	c := *s
	c.Flushed = maps.Clone(s.Flushed)
	c.Files = maps.Clone(s.Files)
	if s.Dedupe != nil {
		snapshot := *s.Dedupe
		c.Dedupe = &snapshot
	}
	return c
}

// SortedFiles returns the files ordered by path.
func (s State) SortedFiles() []File {
	files := make([]File, 0, len(s.Files))
	for _, path := range slices.Sorted(maps.Keys(s.Files)) {
		files = append(files, s.Files[path])
	}
	return files
}

// check says why e must not be applied to s; nil where it may be.
func (s *State) check(e *Edit) error {
	removed := make(map[string]struct{}, len(e.RemoveFiles))
	for _, path := range e.RemoveFiles {
		if _, ok := s.Files[path]; !ok {
			return fmt.Errorf("removes file %q, which is not listed", path)
		}
		if _, ok := removed[path]; ok {
			return fmt.Errorf("removes file %q twice", path)
		}
		removed[path] = struct{}{}
	}
	added := make(map[string]struct{}, len(e.AddFiles))
	for i := range e.AddFiles {
		f := &e.AddFiles[i]
		if err := f.check(); err != nil {
			return err
		}
		_, listed := s.Files[f.Path]
		_, twice := added[f.Path]
		if listed || twice {
			return fmt.Errorf("adds file %q, which is listed already", f.Path)
		}
		added[f.Path] = struct{}{}
	}
	for sink, lsn := range e.Flushed {
		if lsn < s.Flushed[sink] {
			return fmt.Errorf("moves sink %q back from LSN %d to %d", sink, s.Flushed[sink], lsn)
		}
	}
	if e.LowWatermark != 0 && e.LowWatermark < s.LowWatermark {
		return fmt.Errorf("moves the low watermark back from LSN %d to %d", s.LowWatermark, e.LowWatermark)
	}
	if e.Dedupe != nil && s.Dedupe != nil && e.Dedupe.LSN < s.Dedupe.LSN {
		return fmt.Errorf("moves the dedupe snapshot back from LSN %d to %d", s.Dedupe.LSN, e.Dedupe.LSN)
	}
	return nil
}

func (f *File) check() error {
	if f.Path == "" || f.Tenant == "" || (f.Endpoint == "") != f.Mixed {
		return fmt.Errorf("adds file %q without path, tenant or endpoint", f.Path)
	}
	if !utf8.ValidString(f.Path) || !utf8.ValidString(f.Tenant) || !utf8.ValidString(f.Endpoint) {
		return fmt.Errorf("adds file %q with a name that is not UTF-8", f.Path)
	}
	if f.FirstLSN == 0 || f.LastLSN < f.FirstLSN || f.Rows <= 0 || f.MaxTimeUnixNano < f.MinTimeUnixNano {
		return fmt.Errorf("adds file %q with impossible bounds", f.Path)
	}
	return nil
}

// apply changes s by an edit that check has let pass.
func (s *State) apply(e *Edit) {
	if e.WALID != "" {
		s.WALID = e.WALID
	}
	for _, path := range e.RemoveFiles {
		delete(s.Files, path)
	}
	for _, f := range e.AddFiles {
		s.Files[f.Path] = f
	}
	maps.Copy(s.Flushed, e.Flushed)
	s.LowWatermark = max(s.LowWatermark, e.LowWatermark)
	if e.Dedupe != nil {
		snapshot := *e.Dedupe
		s.Dedupe = &snapshot
	}
}
