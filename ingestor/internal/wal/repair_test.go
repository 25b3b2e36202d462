package wal

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

func repairOptions(fsys *crashfs.FS, img *image) Options {
	return Options{
		Dir: "wal", FS: fsys, SegmentSizeBytes: 32 << 10, MaxGroupBytes: 8 << 10, SpareSegments: -1, FirstLSN: img.firsts[0],
	}
}

// kept opens a repaired log and returns the first LSNs of its entries, each judged by identity.
func (img *image) kept(t *testing.T, fsys *crashfs.FS) []LSN {
	t.Helper()
	w := mustOpen(t, repairOptions(fsys, img))
	got := replayed(t, w, 0)
	require.NoError(t, w.Close())
	require.Subset(t, img.firsts, got)
	return got
}

// requireExact checks that what was kept and what is said to be lost are together all that was written, up to the last one
// kept, and have nothing in common.
func (img *image) requireExact(t *testing.T, report RepairReport, kept []LSN) {
	t.Helper()
	lost := map[LSN]bool{}
	for _, r := range report.Lost {
		for lsn := r.First; lsn <= r.Last; lsn++ {
			lost[lsn] = true
		}
	}
	isKept := map[LSN]bool{}
	for _, first := range kept {
		isKept[first] = true
	}
	for _, first := range img.firsts {
		if first > report.LastLSN {
			break
		}
		for i := range LSN(entryFor(first).Records) {
			require.NotEqual(t, isKept[first], lost[first+i], "LSN %d is either kept or said to be lost", first+i)
			delete(lost, first+i)
		}
	}
	for lsn := range lost {
		require.GreaterOrEqual(t, lsn, report.LastLSN)
	}
	require.Len(t, kept, report.KeptFrames)
}

func TestRepairKeepsWhatIsLegible(t *testing.T) {
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, seed))
	img := newImage(t, true)
	repaired, lostBytes := 0, int64(0)
	for _, name := range img.segments() {
		for at := 0; at < len(img.files[name]); at += 512 {
			damaged := bytes.Clone(img.files[name])
			garble(sector(damaged, at, 512), rng)
			fsys := img.mount(t, name, damaged)
			report, err := Repair(context.Background(), repairOptions(fsys, img))
			require.NoError(t, err, "%s byte %d", name, at)
			kept := img.kept(t, fsys)
			if report.Damage == nil {
				require.Equal(t, img.firsts, kept)
				require.Empty(t, report.PutAside)
				continue
			}
			repaired++
			img.requireExact(t, report, kept)
			require.LessOrEqual(t, len(img.firsts)-len(kept), 5, "only the entries in the sector are lost")
			require.Len(t, report.PutAside, len(img.segments()))
			aside, err := vfs.ReadFile(fsys, filepath.Join("wal", name+damagedSuffix))
			require.NoError(t, err)
			require.True(t, bytes.Equal(damaged, aside), "the damaged file is kept as it was")
			lostBytes += report.LostBytes
		}
	}
	t.Logf("%d repairs, %d bytes lost", repaired, lostBytes)
	require.Greater(t, lostBytes, int64(repaired*100))
	require.Greater(t, repaired, 50)
}

func TestRepairOfAMissingSegment(t *testing.T) {
	img := newImage(t, true)
	for _, name := range img.segments() {
		fsys := img.mount(t, name, nil)
		report, err := Repair(context.Background(), repairOptions(fsys, img))
		require.NoError(t, err)
		if report.Damage == nil {
			require.Equal(t, img.segments()[len(img.segments())-1], name, "only of the newest nobody knows")
			continue
		}
		img.requireExact(t, report, img.kept(t, fsys))
		require.NotEmpty(t, report.Lost)
		require.Contains(t, report.Lost[0].String(), "-")
	}
}

// TestARepairedLogBeginsWhereItDid: what is lost at the beginning must be a gap in the log. A log that begins behind it would look as
// if records that a sink needs had been dropped.
func TestARepairedLogBeginsWhereItDid(t *testing.T) {
	img := newImage(t, true)
	oldest := img.segments()[0]
	zeros := bytes.Clone(img.files[oldest])
	clear(zeros[:12<<10])
	noFrames := bytes.Clone(img.files[oldest])
	clear(noFrames[segmentHeaderBytes : 12<<10])
	for name, contents := range map[string][]byte{"header and frames": zeros, "frames": noFrames, "all": nil} {
		t.Run(name, func(t *testing.T) {
			fsys := img.mount(t, oldest, contents)
			report, err := Repair(context.Background(), repairOptions(fsys, img))
			require.NoError(t, err)
			require.Equal(t, img.firsts[0], report.Lost[0].First)
			w := mustOpen(t, repairOptions(fsys, img))
			require.Equal(t, img.firsts[0], w.FirstLSN())
			require.NotEmpty(t, replayed(t, w, img.firsts[0]))
			require.NoError(t, w.Close())
		})
	}
}

func TestARepairedLogKeepsItsIdentity(t *testing.T) {
	img := newImage(t, true)
	fsys := img.mount(t, "", nil)
	w := mustOpen(t, repairOptions(fsys, img))
	id := w.ID()
	require.NoError(t, w.Close())
	for _, name := range img.segments() {
		f, err := fsys.OpenFile(filepath.Join("wal", name), os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(make([]byte, 512), 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	opt := repairOptions(fsys, img)
	opt.ID = id
	report, err := Repair(context.Background(), opt)
	require.NoError(t, err)
	require.NotNil(t, report.Damage)
	w = mustOpen(t, repairOptions(fsys, img))
	require.Equal(t, id, w.ID())
	require.Equal(t, img.firsts, replayed(t, w, 0))
	require.NoError(t, w.Close())
}

func TestRepairOfASoundLogDoesNothing(t *testing.T) {
	img := newImage(t, false)
	fsys := img.mount(t, "", nil)
	before, err := fsys.List("wal")
	require.NoError(t, err)
	report, err := Repair(context.Background(), repairOptions(fsys, img))
	require.NoError(t, err)
	require.Equal(t, RepairReport{}, report)
	after, err := fsys.List("wal")
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestVerifyAndInspect(t *testing.T) {
	img := newImage(t, true)
	fsys := img.mount(t, "", nil)
	var frames, records int
	report, err := Inspect(context.Background(), fsys, "wal", func(f FrameInfo) error {
		frames++
		if f.Kind == "records" {
			require.Equal(t, img.firsts[records], f.FirstLSN)
			require.Less(t, f.DurableLSN, f.FirstLSN)
			records++
		}
		return nil
	})
	require.NoError(t, err)
	require.Nil(t, report.Corruption)
	require.Len(t, img.firsts, records)
	require.Equal(t, records+1, frames, "and a seal")
	require.Len(t, report.Segments, len(img.segments()))
	require.True(t, report.Segments[len(report.Segments)-1].Sealed)
	require.Equal(t, img.firsts[0], report.Segments[0].FirstLSN)
	require.Len(t, report.WALID, 32)

	name := img.segments()[0]
	damaged := bytes.Clone(img.files[name])
	damaged[5000] ^= 1
	report, err = Verify(context.Background(), img.mount(t, name, damaged), "wal")
	require.NoError(t, err)
	require.Equal(t, name, report.Corruption.Segment)
	require.Contains(t, report.Corruption.Error(), fmt.Sprintf("segment %s is corrupt at byte", name))

	_, err = Verify(context.Background(), fsys, "none")
	require.Error(t, err)
}
