package manifest_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// record is a manifest as it was written, and its state after each of its lines.
type record struct {
	content []byte
	begins  []int // of the lines
	states  []string
}

// newRecord commits edits of several lengths, one of them longer than a block.
func newRecord(t testing.TB) *record {
	fsys := newDataDir(t)
	m := open(t.(*testing.T), fsys)
	r := &record{states: []string{describe(m.State())}}
	lsn := uint64(0)
	for _, endpoint := range []string{"a", strings.Repeat("long", 300), "b", strings.Repeat("x", 5000), "cé", "d"} {
		lsn += 3
		snapshot, err := m.WriteSnapshot(lsn, []byte(snapshotAt(lsn)))
		require.NoError(t, err)
		require.NoError(t, m.Commit(manifest.Edit{
			AddFiles: []manifest.File{fileOf(endpoint, lsn-2, lsn)}, Flushed: map[string]uint64{"parquet": lsn}, LowWatermark: lsn,
			Dedupe: &snapshot,
		}))
		r.states = append(r.states, describe(m.State()))
	}
	require.NoError(t, m.Close())
	var err error
	r.content, err = vfs.ReadFile(fsys, path)
	require.NoError(t, err)
	for at := 0; at < len(r.content); at += bytes.IndexByte(r.content[at:], '\n') + 1 {
		r.begins = append(r.begins, at)
	}
	require.Len(t, r.begins, len(r.states))
	return r
}

// judge reads a damaged manifest. It is whole; or the damage reaches into the last line and all from its beginning on is dropped, because
// nothing legible shows that a commit there had returned (that the log was cut because of it shows when the log is opened); or it is
// refused at the line in which the damage begins.
func (r *record) judge(content []byte) (refused bool, err error) {
	fsys := crashfs.New()
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	if err := vfs.WriteFileDurably(fsys, path, path+".tmp", content); err != nil {
		return false, err
	}
	first := 0
	for first < min(len(content), len(r.content)) && content[first] == r.content[first] {
		first++
	}
	line := len(r.begins) - 1
	for line > 0 && r.begins[line] > first {
		line--
	}
	state, err := manifest.Read(fsys, dir)
	last := len(r.states) - 1
	if err != nil {
		refusal, ok := errors.AsType[*manifest.CorruptionError](err)
		if !ok || refusal.Reason == "" || refusal.File != path || refusal.OffsetBytes != int64(r.begins[line]) {
			return true, fmt.Errorf("the damage begins at byte %d, in the line at %d: %w", first, r.begins[line], err)
		}
		return true, nil
	}
	switch got := describe(state); {
	case got == r.states[last] && bytes.Equal(content, r.content):
		return false, nil
	case line > 0 && got == r.states[line-1] && r.reachesInto(content, last):
		return false, nil
	case len(content) < len(r.content) && bytes.HasPrefix(r.content, content) && got == r.states[max(0, bytes.Count(content, []byte("\n"))-1)]:
		return false, nil // what a shorter run would have left
	default:
		return false, fmt.Errorf("silence: the damage begins in line %d of %d, and the state is %s", line+1, last+1, got)
	}
}

// reachesInto says whether the damage reaches into a line.
func (r *record) reachesInto(content []byte, line int) bool {
	at := r.begins[line]
	return len(content) < len(r.content) || !bytes.Equal(content[at:], r.content[at:])
}

// TestEveryDamage flips every bit, cuts to every length, zeros and swaps sectors.
func TestEveryDamage(t *testing.T) {
	run := crashlevel.Start(t, "damaged manifest", "openings", "./ingestor/internal/storage/manifest")
	r := newRecord(t)
	refusals := 0
	check := func(content []byte, what string, args ...any) {
		t.Helper()
		refused, err := r.judge(content)
		require.NoError(t, err, append([]any{what}, args...)...)
		if refused {
			refusals++
		}
		run.Explored(1)
	}
	step := crashlevel.Pick(t, 61, 1, 1)
	for i := 0; i < 8*len(r.content); i += step {
		b := bytes.Clone(r.content)
		b[i/8] ^= 1 << (i % 8)
		check(b, "bit %d of byte %d", i%8, i/8)
	}
	for length := 0; length < len(r.content); length += 1 + step/8 {
		check(r.content[:length], "cut to %d bytes", length)
	}
	rng := rand.New(rand.NewPCG(run.Seed(), 0))
	sectors := len(r.content) / 512
	for i := range sectors {
		b := bytes.Clone(r.content)
		clear(b[i*512 : i*512+512])
		check(b, "sector %d zeroed", i)
		for at := i * 512; at < i*512+512; at++ {
			b[at] = byte(rng.Uint32())
		}
		check(b, "sector %d filled with garbage", i)
		for j := range i {
			b := bytes.Clone(r.content)
			copy(b[i*512:], r.content[j*512:j*512+512])
			copy(b[j*512:], r.content[i*512:i*512+512])
			if !bytes.Equal(b, r.content) {
				check(b, "sectors %d and %d swapped", j, i)
			}
		}
	}
	require.Greater(t, refusals, sectors)
}

// TestNoMemoryForACorruptLength: a manifest has no lengths; one edit that says that a snapshot is huge must not make room for it.
func TestNoMemoryForACorruptLength(t *testing.T) {
	fsys := newDataDir(t)
	m := open(t, fsys)
	snapshot, err := m.WriteSnapshot(1, []byte("small"))
	require.NoError(t, err)
	snapshot.Bytes = 1 << 40
	require.NoError(t, m.Commit(manifest.Edit{Dedupe: &snapshot, LowWatermark: 1}))
	require.NoError(t, m.Close())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m = open(t, fsys)
	_, _, err = m.ReadSnapshot()
	runtime.ReadMemStats(&after)
	require.ErrorAs(t, err, new(*manifest.CorruptionError))
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
	require.NoError(t, m.Close())
}
