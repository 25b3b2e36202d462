package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

const (
	// FileName is the manifest's name within its directory.
	FileName = "MANIFEST.jsonl"

	snapshotPrefix = "dedupe-"
	snapshotSuffix = ".snapshot"
	tempSuffix     = ".tmp"

	// reserveBytes is the room that is kept free behind the last line, so that a full disk is noticed before an edit is written.
	reserveBytes = 256 << 10
	// A file is rewritten when its edits take more than its snapshot line, and more than this.
	defaultMinRewriteBytes = 1 << 20
)

// ErrNoSpace says that the disk is full and that nothing has changed. The call may be tried again.
var ErrNoSpace = errors.New("manifest: no space left")

// ErrPoisoned says that an earlier write or sync has failed. It is final: what the disk holds is not known any more, and the
// process must stop.
var ErrPoisoned error = poisonError{}

type poisonError struct{}

func (poisonError) Error() string { return "manifest: poisoned by a failed write" }

// Fatal tells the processor to stop the server.
func (poisonError) Fatal() bool { return true }

// Options are what a Manifest is opened with.
type Options struct {
	Logger *slog.Logger
	// BeforeCreate is asked before a first, empty manifest is made; an error stops Open. It is the place to find that there
	// are files already: then the manifest was lost, and an empty one would condemn them.
	BeforeCreate func() error
	// MinRewriteBytes is how much is appended to a file before it may be rewritten; 0 means 1 MiB.
	MinRewriteBytes int64
}

// Manifest is an open manifest.
type Manifest struct {
	fsys vfs.FS
	dir  string
	opts Options

	mu    sync.Mutex
	state State    // guarded by mu, as is all below
	file  vfs.File // the current file, open for writing; nil until it was taken over
	// sizeBytes is the file's length up to the last whole line, snapshotBytes that of its first line; reservedBytes is up to
	// where space is known to be there.
	sizeBytes, snapshotBytes, reservedBytes int64
	lastSeq                                 uint64
	poison                                  error
}

// Open reads the manifest in dir, or makes an empty one, and takes it over under the next owner epoch. The caller makes
// sure that no other process has it open. Where the disk is full, a manifest that exists can be read all the same; it is taken over by
// the first WriteSnapshot or Commit that finds space, and the others return ErrNoSpace.
func Open(fsys vfs.FS, dir string, opts Options) (*Manifest, error) {
	if opts.MinRewriteBytes == 0 {
		opts.MinRewriteBytes = defaultMinRewriteBytes
	}
	m := &Manifest{fsys: fsys, dir: dir, opts: opts}
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	if err := m.load(); err != nil {
		return nil, err
	}
	exists := m.lastSeq > 0
	m.state.OwnerEpoch++
	m.lastSeq++
	switch err := m.rewrite(); {
	case errors.Is(err, ErrNoSpace) && exists:
		opts.Logger.Warn("manifest: the disk is full, nothing can be committed until there is space")
	case err != nil:
		return nil, err
	}
	if err := m.removeStray(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// takeOver makes this process the owner where Open found no space to do so.
func (m *Manifest) takeOver() error {
	if m.file != nil {
		return nil
	}
	return m.rewrite()
}

// Read returns the state of the manifest in dir and changes nothing. The error wraps fs.ErrNotExist where there is none.
func Read(fsys vfs.FS, dir string) (State, error) {
	path := filepath.Join(dir, FileName)
	content, err := vfs.ReadFile(fsys, path)
	if err != nil {
		return State{}, err
	}
	state, _, _, err := replay(path, content)
	return state, err
}

// load reads state and lastSeq from the file.
func (m *Manifest) load() error {
	path := filepath.Join(m.dir, FileName)
	content, err := vfs.ReadFile(m.fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		m.state = newState()
		if m.opts.BeforeCreate != nil {
			return m.opts.BeforeCreate()
		}
		return nil
	}
	if err != nil {
		return err
	}
	state, lastSeq, torn, err := replay(path, content)
	if err != nil {
		return err
	}
	if torn > 0 {
		m.opts.Logger.Warn("manifest: dropped an edit that was never committed", "offset_bytes", len(content)-torn,
			"dropped_bytes", torn)
	}
	m.state, m.lastSeq = state, lastSeq
	return nil
}

// removeStray removes temporary files and snapshots that are not in force.
func (m *Manifest) removeStray() error {
	names, err := m.fsys.List(m.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		current := m.state.Dedupe != nil && name == m.state.Dedupe.Name
		snapshot := strings.HasPrefix(name, snapshotPrefix) && strings.HasSuffix(name, snapshotSuffix)
		if !strings.HasSuffix(name, tempSuffix) && (!snapshot || current) {
			continue
		}
		if err := m.fsys.Remove(filepath.Join(m.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// State returns a copy of the state as of the last Commit.
func (m *Manifest) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.clone()
}

// Flushed returns the last LSN that a sink holds durably; 0 for nothing.
func (m *Manifest) Flushed(sink string) LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Flushed[sink]
}

// Commit makes the edit durable. On nil it is; the state before or the state after it is what a crash leaves at any moment.
// ErrNoSpace means that nothing has changed. An edit that contradicts the state is refused and changes nothing. Any other
// error poisons the manifest and leaves open whether the edit is durable.
//
// The files that the edit adds must be durable already, and those that it removes must be there until Commit has returned.
func (m *Manifest) Commit(edit Edit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.poison != nil {
		return m.poisoned()
	}
	if err := m.state.check(&edit); err != nil {
		return fmt.Errorf("manifest: refused an edit that %w", err)
	}
	if err := m.takeOver(); err != nil {
		return err
	}
	former := m.state.Dedupe
	if err := m.append(&entry{Seq: m.lastSeq + 1, Edit: edit}); err != nil {
		return err
	}
	m.lastSeq++
	m.state.apply(&edit)

	// The edit is durable. What follows is housekeeping: its failure must not look like the edit's.
	if edit.Dedupe != nil && former != nil && former.Name != edit.Dedupe.Name {
		if err := m.fsys.Remove(filepath.Join(m.dir, former.Name)); err != nil {
			m.opts.Logger.Warn("manifest: a former dedupe snapshot was not removed", "name", former.Name, "error", err)
		}
	}
	if edits := m.sizeBytes - m.snapshotBytes; edits > max(m.snapshotBytes, m.opts.MinRewriteBytes) {
		m.lastSeq++
		if err := m.rewrite(); err != nil {
			m.lastSeq--
			m.opts.Logger.Error("manifest: rewrite failed", "error", err)
		}
	}
	return nil
}

func (m *Manifest) poisoned() error { return fmt.Errorf("%w: %w", ErrPoisoned, m.poison) }

// fail poisons the manifest.
func (m *Manifest) fail(err error) error {
	m.poison = err
	return m.poisoned()
}

// append writes one line behind the last one and syncs it.
func (m *Manifest) append(e *entry) error {
	line, err := e.line()
	if err != nil {
		return err
	}
	if err := m.reserve(m.sizeBytes + int64(len(line))); err != nil {
		return err
	}
	if _, err := m.file.WriteAt(line, m.sizeBytes); err != nil {
		if !vfs.IsNoSpace(err) {
			return m.fail(err)
		}
		// Nothing of the line may survive, or it could be taken for committed after a crash.
		if err := errors.Join(m.file.Truncate(m.sizeBytes), m.file.Datasync()); err != nil {
			return m.fail(err)
		}
		return ErrNoSpace
	}
	if err := m.file.Datasync(); err != nil {
		return m.fail(err)
	}
	m.sizeBytes += int64(len(line))
	return nil
}

// reserve makes sure, where the file system can, that the file may grow up to sizeBytes.
func (m *Manifest) reserve(sizeBytes int64) error {
	if sizeBytes <= m.reservedBytes {
		return nil
	}
	m.reservedBytes = sizeBytes + reserveBytes
	err := m.file.Preallocate(m.reservedBytes)
	switch {
	case err == nil || errors.Is(err, errors.ErrUnsupported):
		return nil
	case vfs.IsNoSpace(err):
		m.reservedBytes = 0
		return ErrNoSpace
	default:
		return m.fail(err)
	}
}

// rewrite replaces the file by a new one that holds nothing but the state, under m.lastSeq.
func (m *Manifest) rewrite() error {
	e := entry{Seq: m.lastSeq, Snapshot: true, Format: formatVersion, OwnerEpoch: m.state.OwnerEpoch, Edit: Edit{
		WALID:        m.state.WALID,
		AddFiles:     m.state.SortedFiles(),
		Flushed:      m.state.Flushed,
		LowWatermark: m.state.LowWatermark,
		Dedupe:       m.state.Dedupe,
	}}
	line, err := e.line()
	if err != nil {
		return err
	}
	if err := m.publish(FileName, line); err != nil {
		return err
	}
	file, err := m.fsys.OpenFile(filepath.Join(m.dir, FileName), os.O_WRONLY, 0)
	if err != nil {
		return m.fail(err)
	}
	if m.file != nil {
		err = m.file.Close()
	}
	m.file = file
	m.sizeBytes, m.snapshotBytes, m.reservedBytes = int64(len(line)), int64(len(line)), 0
	if err != nil {
		return m.fail(err)
	}
	return nil
}

// publish makes a file of the given contents appear under a name, whole and durable. A disk that is full changes nothing; any
// other failure poisons.
func (m *Manifest) publish(name string, contents []byte) error {
	path := filepath.Join(m.dir, name)
	temp := path + tempSuffix
	if err := m.writeTemp(temp, contents); err != nil {
		if !vfs.IsNoSpace(err) {
			return m.fail(err)
		}
		if err := m.fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return m.fail(err)
		}
		return ErrNoSpace
	}
	if err := m.fsys.Rename(temp, path); err != nil {
		return m.fail(err)
	}
	if err := m.fsys.SyncDir(m.dir); err != nil {
		return m.fail(err)
	}
	return nil
}

func (m *Manifest) writeTemp(path string, contents []byte) error {
	file, err := m.fsys.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err = file.WriteAt(contents, 0); err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// Err returns nil, or why the manifest is poisoned.
func (m *Manifest) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.poison == nil {
		return nil
	}
	return m.poisoned()
}

// Close releases the file. Everything committed is durable already.
func (m *Manifest) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.poison == nil {
		m.poison = fs.ErrClosed
	}
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}
