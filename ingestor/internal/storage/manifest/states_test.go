package manifest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// expectation is what a manifest must say after a power cut at some moment: one of states, which are the last one that was acknowledged and,
// while a commit runs, the one after it. The owner epoch is above epoch.
type expectation struct {
	states []string
	epoch  uint64
}

// describe writes down all of a state but its epoch.
func describe(s manifest.State) string {
	dedupe := ""
	if s.Dedupe != nil {
		dedupe = fmt.Sprint(*s.Dedupe)
	}
	return fmt.Sprint(s.WALID, s.SortedFiles(), s.Flushed, s.LowWatermark, dedupe)
}

// stateRun is a manifest that is written to, while the power is cut before each of its operations.
type stateRun struct {
	t        testing.TB
	rng      *rand.Rand
	explorer *crashfs.Explorer
	bound    int
	deepEvery,
	deepBound int
	deeper atomic.Int64

	fsys *crashfs.FS
	now  expectation
	lsn  uint64
}

var rewriteOften = manifest.Options{Logger: quiet, MinRewriteBytes: 1500}

// watch cuts the power before every operation.
func (r *stateRun) watch() {
	operation := 0
	r.fsys.Before(func(op crashfs.Op) error {
		operation++
		m, then := r.fsys.Freeze(), r.now
		where := fmt.Sprintf("power cut before operation %d, %s of %s", operation, op.Kind, op.Name)
		r.explorer.Moment(m, r.bound, where, func(f *crashfs.FS, seed uint64) error { return r.recover(f, then, seed, 1) })
		r.explorer.Moment(m, 1, where+", after a kill", func(_ *crashfs.FS, seed uint64) error { return r.kill(m, then, seed) })
		return nil
	})
}

// recover opens what a power cut left, judges it, commits, and opens it again. At the first depths it is itself cut short.
func (r *stateRun) recover(f *crashfs.FS, want expectation, seed uint64, depth int) error {
	var moments []*crashfs.Moment
	if depth < 3 && seed%uint64(r.deepEvery<<(3*depth-3)) == 0 {
		f.Before(func(crashfs.Op) error {
			moments = append(moments, f.Freeze())
			return nil
		})
	}
	m, err := manifest.Open(f, dir, rewriteOften)
	f.Before(nil)
	if err != nil {
		return fmt.Errorf("the start is refused: %w", err)
	}
	found := m.State()
	if err := want.judge(m, found); err != nil {
		return errors.Join(err, m.Close())
	}
	if err := r.commitAgain(f, m); err != nil {
		return err
	}
	// Everything was durable, so that what was found is what any other recovery finds, also where this one was cut short.
	again := expectation{[]string{describe(found)}, want.epoch}
	for i, moment := range moments {
		visited, _, err := moment.Visit(r.deepBound, seed+uint64(i), func(f *crashfs.FS, seed uint64) error { return r.recover(f, again, seed, depth+1) })
		r.deeper.Add(visited)
		if err != nil {
			return fmt.Errorf("power cut %d before operation %d of the recovery: %w", depth+1, i+1, err)
		}
	}
	return nil
}

// kill lets the program die, so that the next one finds what is in the page cache. Until its Open has returned, a power cut may take that
// back; afterwards it must not.
func (r *stateRun) kill(m *crashfs.Moment, want expectation, seed uint64) error {
	f := m.Kill()
	var during []*crashfs.Moment
	f.Before(func(crashfs.Op) error {
		during = append(during, f.Freeze())
		return nil
	})
	next, err := manifest.Open(f, dir, rewriteOften)
	if err != nil {
		return fmt.Errorf("the start is refused: %w", err)
	}
	found := next.State()
	if err := errors.Join(want.judge(next, found), next.Close()); err != nil {
		return err
	}
	visit := func(m *crashfs.Moment, want expectation) error {
		visited, _, err := m.Visit(r.deepBound, seed, func(f *crashfs.FS, seed uint64) error { return r.recover(f, want, seed, 2) })
		r.deeper.Add(visited)
		return err
	}
	for i, m := range during {
		if err := visit(m, want); err != nil {
			return fmt.Errorf("power cut before operation %d of the recovery: %w", i+1, err)
		}
	}
	return visit(f.Freeze(), expectation{[]string{describe(found)}, found.OwnerEpoch})
}

// judge compares a state, and the snapshot that it names, with what must be there.
func (e *expectation) judge(m *manifest.Manifest, found manifest.State) error {
	if found.OwnerEpoch <= e.epoch {
		return fmt.Errorf("owner epoch %d was given out before", found.OwnerEpoch)
	}
	got := describe(found)
	known := false
	for _, want := range e.states {
		known = known || got == want
	}
	if !known {
		return fmt.Errorf("found %s, must be one of %s", got, strings.Join(e.states, " or "))
	}
	contents, lsn, err := m.ReadSnapshot()
	switch {
	case err != nil:
		return err
	case lsn != found.LowWatermark || lsn > 0 && string(contents) != snapshotAt(lsn):
		return fmt.Errorf("the snapshot at LSN %d is %q", lsn, contents)
	}
	return nil
}

func snapshotAt(lsn uint64) string {
	return strings.Repeat(fmt.Sprintf("snapshot %d ", lsn), int(1+lsn%60))
}

// commitAgain commits to a recovered manifest and looks whether that stays.
func (r *stateRun) commitAgain(f *crashfs.FS, m *manifest.Manifest) error {
	lsn := m.State().LowWatermark + 1
	if err := m.Commit(manifest.Edit{AddFiles: []manifest.File{fileOf("again", lsn, lsn)}, Flushed: map[string]uint64{"again": lsn}}); err != nil {
		return err
	}
	want := m.State()
	if err := m.Close(); err != nil {
		return err
	}
	after, err := manifest.Read(f, dir)
	if err != nil || describe(after) != describe(want) {
		return fmt.Errorf("after another commit %s, must be %s: %w", describe(after), describe(want), err)
	}
	return nil
}

// commit adds one file, now and then one with a long name, removes an older one and replaces the dedupe snapshot.
func (r *stateRun) commit(m *manifest.Manifest) {
	r.lsn++
	before := m.State()
	snapshot, err := m.WriteSnapshot(r.lsn, []byte(snapshotAt(r.lsn)))
	require.NoError(r.t, err)
	file := fileOf(strings.Repeat("x", 1+r.rng.IntN(900)), r.lsn, r.lsn)
	edit := manifest.Edit{
		AddFiles: []manifest.File{file}, Flushed: map[string]uint64{"parquet": r.lsn}, LowWatermark: r.lsn, Dedupe: &snapshot,
	}
	after := m.State()
	after.Files[file.Path] = file
	if len(before.Files) > 3 {
		edit.RemoveFiles = []string{before.SortedFiles()[0].Path}
		delete(after.Files, edit.RemoveFiles[0])
	}
	after.Flushed["parquet"], after.LowWatermark, after.Dedupe = r.lsn, r.lsn, &snapshot
	r.now.states = []string{describe(before), describe(after)}
	require.NoError(r.t, m.Commit(edit))
	r.now.states = []string{describe(after)}
}

// live opens the manifest, commits, and goes on with one of the states that a power cut leaves.
func (r *stateRun) live(runs, commits int) {
	for range runs {
		m, err := manifest.Open(r.fsys, dir, rewriteOften)
		require.NoError(r.t, err)
		r.now = expectation{[]string{describe(m.State())}, m.State().OwnerEpoch}
		for range commits {
			r.commit(m)
		}
		if r.rng.IntN(2) == 0 {
			require.NoError(r.t, m.Close())
			continue
		}
		r.fsys = r.fsys.Crash(r.rng)
		r.watch()
	}
}

// newDataDir is a file system with a data directory that is durable before anything is written to it: package datadir sees to that.
func newDataDir(t testing.TB) *crashfs.FS {
	fsys := crashfs.New()
	require.NoError(t, fsys.MkdirAll("data", 0o755))
	require.NoError(t, fsys.SyncDir("."))
	return fsys
}

// TestEveryStateOfAManifest cuts the power before every operation of runs that open, commit, rewrite and replace snapshots, and again before
// every operation of the recovery. What is found is the last acknowledged state or the one under way.
func TestEveryStateOfAManifest(t *testing.T) {
	run := crashlevel.Start(t, "manifest states", "states", "./ingestor/internal/storage/manifest")
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	target := int64(crashlevel.Pick(t, 1000, 120_000, 20_000_000))
	moments := 0
	for n, states := uint64(0), int64(0); states < target; n++ {
		r := &stateRun{
			t: t, rng: rand.New(rand.NewPCG(run.Seed()+n, 0)), explorer: &crashfs.Explorer{Seed: run.Seed() + n},
			bound: crashlevel.Pick(t, 6, 600, 5000), deepEvery: 16, deepBound: crashlevel.Pick(t, 2, 4, 20),
			fsys: newDataDir(t), now: expectation{states: []string{describe(manifest.State{})}},
		}
		r.watch()
		r.live(3, crashlevel.Pick(t, 4, 8, 8))
		explored, complete, err := r.explorer.Wait()
		states += explored + r.deeper.Load()
		moments += complete
		run.Explored(explored + r.deeper.Load())
		require.NoError(t, err, "run %d of seed %d", n, run.Seed())
	}
	t.Logf("of %d moments all states", moments)
}
