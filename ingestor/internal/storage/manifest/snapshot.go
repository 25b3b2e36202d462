package manifest

import (
	"fmt"
	"path/filepath"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// WriteSnapshot stores the dedupe table, as of lsn, in a file beside the manifest. It takes force with the Commit of an
// Edit whose Dedupe is what is returned here, before the next WriteSnapshot; until then, and after a crash before it, the
// former snapshot holds. ErrNoSpace means that nothing has changed; any other error poisons the manifest.
func (m *Manifest) WriteSnapshot(lsn LSN, contents []byte) (Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.poison != nil {
		return Snapshot{}, m.poisoned()
	}
	if err := m.takeOver(); err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{
		// The number of the edit to come makes the name new: the file in force is never overwritten.
		Name:   fmt.Sprintf("%s%020d-%020d%s", snapshotPrefix, lsn, m.lastSeq+1, snapshotSuffix),
		LSN:    lsn,
		Bytes:  int64(len(contents)),
		CRC32C: Checksum(contents),
	}
	if err := m.publish(s.Name, contents); err != nil {
		return Snapshot{}, err
	}
	return s, nil
}

// ReadSnapshot returns the dedupe table as of the LSN of the snapshot in force; nil and 0 where there is none. It returns a
// *CorruptionError where the file is not what was written.
func (m *Manifest) ReadSnapshot() (contents []byte, lsn LSN, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state.Dedupe
	if s == nil {
		return nil, 0, nil
	}
	path := filepath.Join(m.dir, s.Name)
	contents, err = vfs.ReadFile(m.fsys, path)
	if err != nil {
		return nil, 0, err
	}
	if int64(len(contents)) != s.Bytes || Checksum(contents) != s.CRC32C {
		return nil, 0, &CorruptionError{File: path, Reason: fmt.Sprintf("%d bytes with checksum %s instead of %d with %s",
			len(contents), Checksum(contents), s.Bytes, s.CRC32C)}
	}
	return contents, s.LSN, nil
}
