package wal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// image is a log as files in memory, and what it must hold.
type image struct {
	files map[string][]byte
	// firsts are the LSNs of all entries; the last unprovable of them have no frame after their group, so nothing shows whether
	// they had been synced.
	firsts     []LSN
	unprovable int
}

// newImage writes a log of two segments and some spares, and takes its files.
func newImage(t *testing.T, closed bool) *image {
	t.Helper()
	fsys := crashfs.New()
	opt := Options{Dir: "wal", FS: fsys, SegmentSizeBytes: 32 << 10, MaxGroupBytes: 8 << 10, SpareSegments: 1}
	w := mustOpen(t, opt)
	img := &image{files: map[string][]byte{}, unprovable: 2}
	for w.newest().header.id < 4 { // the later ones are recycled
		img.firsts = append(img.firsts, write(t, w, 1, 4)...)
		if w.segmentCount() == 3 {
			require.NoError(t, w.TruncateBelow(w.newest().header.first))
		}
	}
	img.firsts = append(img.firsts, write(t, w, 2, 2)...)
	w.spares.stop()
	if closed {
		require.NoError(t, w.mark(kindSeal))
		img.unprovable = 0
	}
	img.firsts = img.firsts[slices.Index(img.firsts, w.FirstLSN()):]
	require.Equal(t, img.firsts, replayed(t, w, 0))
	names, err := fsys.List("wal")
	require.NoError(t, err)
	for _, name := range names {
		img.files[name], err = vfs.ReadFile(fsys, filepath.Join("wal", name))
		require.NoError(t, err)
	}
	return img
}

// segments are the names of the segments, ascending.
func (img *image) segments() []string {
	var names []string
	for name := range img.files {
		if _, ok := parseSegmentName(name); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// mount makes a file system of the image in which name is replaced by contents, or missing where that is nil.
func (img *image) mount(t *testing.T, name string, contents []byte) *crashfs.FS {
	t.Helper()
	fsys := crashfs.New()
	require.NoError(t, fsys.MkdirAll("wal", 0o755))
	for file, b := range img.files {
		if file == name {
			b = contents
		}
		if b == nil {
			continue
		}
		f, err := fsys.OpenFile(filepath.Join("wal", file), os.O_CREATE|os.O_RDWR, 0o644)
		require.NoError(t, err)
		_, err = f.WriteAt(b, 0)
		require.NoError(t, err)
	}
	return fsys
}

// outcome is what Verify makes of a damaged log.
type outcome int

const (
	intact outcome = iota
	cut
	refused
)

// judgeDamage mounts the image with one file changed and holds the result to the three legal outcomes: all entries are
// there; or the last group, of which nothing shows that it was synced, is cut; or the log is refused.
func (img *image) judgeDamage(t *testing.T, name string, contents []byte) (outcome, error) {
	t.Helper()
	fsys := img.mount(t, name, contents)
	s := scanner{fs: fsys, dir: "wal"}
	list, err := listDir(fsys, "wal")
	require.NoError(t, err)
	segments, err := s.scan(context.Background(), list.segments)
	if err == nil && len(segments) > 0 {
		err = missingBefore(segments[0], img.firsts[0])
	}
	if corruption, ok := errors.AsType[*CorruptionError](err); ok {
		if corruption.Reason == "" || corruption.Segment == "" {
			return refused, fmt.Errorf("unclear refusal: %w", err)
		}
		return refused, nil
	}
	if err != nil {
		return refused, err
	}
	w := newWAL(Options{FS: fsys, Dir: "wal"})
	w.segments = segments
	var got []LSN
	err = w.Replay(context.Background(), 0, func(f Frame) error {
		if !isEntry(f) {
			return fmt.Errorf("frame at LSN %d is not what was appended", f.First)
		}
		got = append(got, f.First)
		return nil
	})
	must := len(img.firsts) - img.unprovable
	switch {
	case err != nil:
		return intact, err
	case slices.Equal(got, img.firsts):
		return intact, nil
	case len(got) >= must && len(got) < len(img.firsts) && slices.Equal(got, img.firsts[:len(got)]):
		return cut, nil
	default:
		return intact, fmt.Errorf("%d entries replayed, %d to %d are legal", len(got), must, len(img.firsts))
	}
}

func sector(b []byte, at, size int) []byte {
	at = at / size * size
	return b[at:min(at+size, len(b))]
}

func garble(b []byte, rng *rand.Rand) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

func TestMissingSegmentIsRefused(t *testing.T) {
	img := newImage(t, false)
	names := img.segments()
	require.GreaterOrEqual(t, len(names), 2)
	for _, name := range names[:len(names)-1] {
		got, err := img.judgeDamage(t, name, nil)
		require.NoError(t, err)
		require.Equal(t, refused, got, name)
	}
}

func TestSegmentUnderAnotherNameIsRefused(t *testing.T) {
	img := newImage(t, false)
	names := img.segments()
	got, err := img.judgeDamage(t, names[0], img.files[names[1]])
	require.NoError(t, err)
	require.Equal(t, refused, got)
}

// TestNewestWithoutHeaderIsRefused: a segment gets its name after its header is durable, so no crash leaves this.
func TestNewestWithoutHeaderIsRefused(t *testing.T) {
	img := newImage(t, false)
	names := img.segments()
	newest := names[len(names)-1]
	for _, contents := range [][]byte{{}, make([]byte, 100), make([]byte, 4096), make([]byte, len(img.files[newest]))} {
		got, err := img.judgeDamage(t, newest, contents)
		require.NoError(t, err)
		require.Equal(t, refused, got)
	}
}

// TestSpareFromAnotherLog: the spare holds whole, valid frames of a segment with the same id, of a log that is gone.
func TestSpareFromAnotherLog(t *testing.T) {
	old := crashfs.New()
	w := mustOpen(t, memoryOptions(old))
	write(t, w, 5, 3)
	require.NoError(t, w.Close())
	stale, err := vfs.ReadFile(old, filepath.Join("wal", segmentName(1)))
	require.NoError(t, err)

	fsys := crashfs.New()
	require.NoError(t, fsys.MkdirAll("wal", 0o755))
	f, err := fsys.OpenFile(filepath.Join("wal", "spare-1.tmp"), os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	_, err = f.WriteAt(stale, 0)
	require.NoError(t, err)
	opt := memoryOptions(fsys)
	opt.SpareSegments = 1
	w = mustOpen(t, opt)
	require.EqualValues(t, 1, w.newest().header.id)
	got, err := vfs.ReadFile(fsys, w.newest().path)
	require.NoError(t, err)
	require.Equal(t, stale[4096:], got[4096:], "the spare was used as it was")
	w.spares.stop()

	w = mustOpen(t, opt)
	require.Empty(t, replayed(t, w, 0))
	want := write(t, w, 1, 1)
	require.Equal(t, want, replayed(t, w, 0))
	require.NoError(t, w.Close())
}
