package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// What went wrong in other systems, each made to happen here. The references are issues on GitHub.

// fieldOptions are those of a log in which every group begins a segment, unless larger segments are asked for.
func fieldOptions(fsys *crashfs.FS, segmentBytes int64, spares int) Options {
	return Options{Dir: "wal", FS: fsys, SegmentSizeBytes: segmentBytes, MaxGroupBytes: 4 << 10, SpareSegments: spares, DirectIO: DirectOff}
}

// everyState calls visit for all states that a power cut may leave now.
func everyState(t *testing.T, fsys *crashfs.FS, visit func(*crashfs.FS) error) {
	t.Helper()
	visited, _, err := fsys.Freeze().Visit(5000, 1, func(f *crashfs.FS, _ uint64) error { return visit(f) })
	require.NoError(t, err)
	require.NotZero(t, visited)
}

// holds opens a log and compares it with an oracle.
func holds(o *oracle, opt Options) func(*crashfs.FS) error {
	return func(f *crashfs.FS) error {
		opt := opt
		opt.FS = f
		w, err := Open(context.Background(), opt)
		if err != nil {
			return err
		}
		got, err := identifyAll(w)
		if err = errors.Join(err, w.Close()); err == nil {
			err = o.judge(got)
		}
		return err
	}
}

// appendSent appends an entry of a length and notes that it was sent.
func appendSent(t *testing.T, w *WAL, o *oracle, payloadBytes uint32) {
	t.Helper()
	e := sentEntry{w.NextLSN(), 1, payloadBytes}
	o.sent = append(o.sent, e)
	_, err := w.Append(e.entry())
	require.NoError(t, err)
}

// etcd-io/etcd#14370: a server with a single member answered a client before the entry was saved. When Sync, or Done, says so, each state
// that a power cut can leave has the entry.
func TestField_Etcd14370_AckBeforeSave(t *testing.T) {
	fsys := crashfs.New()
	opt := fieldOptions(fsys, 20<<10, 1)
	w := mustOpen(t, opt)
	w.spares.stop()
	o := &oracle{}
	for n := range uint32(6) {
		appendSent(t, w, o, 100+n)
		appendSent(t, w, o, 1000+n)
		if n%2 == 0 {
			require.NoError(t, w.Sync())
		} else {
			require.NoError(t, w.Begin())
			require.NoError(t, <-w.Done())
		}
		o.ack()
		everyState(t, fsys, holds(o, opt))
	}
	require.NoError(t, w.Close())
}

// nats-io/nats-server#7549: a single bit flipped in the midst of a log made everything after it disappear at the next start. The start is
// refused, says where, and changes nothing.
func TestField_NatsServer7549_BitErrorTruncatesTheLog(t *testing.T) {
	s := newSpecimen(t)
	newest := s.names[len(s.names)-1]
	for _, place := range s.frames[:len(s.frames)-1] {
		b := bytes.Clone(s.files[place.segment])
		b[place.offset+70] ^= 4
		fsys := s.moment.Kill()
		f, err := fsys.OpenFile(filepath.Join("wal", place.segment), os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(b, 0)
		require.NoError(t, err)
		for range 2 { // the second start finds what the first did
			opt := specimenOptions(fsys)
			opt.FirstLSN = s.must[0].first
			_, err = Open(context.Background(), opt)
			var refusal *CorruptionError
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, place.segment, refusal.Segment)
			require.EqualValues(t, place.offset, refusal.OffsetBytes)
			now, err := vfs.ReadFile(fsys, filepath.Join("wal", place.segment))
			require.NoError(t, err)
			require.True(t, bytes.Equal(b, now))
			last, err := vfs.ReadFile(fsys, filepath.Join("wal", newest))
			require.NoError(t, err)
			require.Len(t, last, len(s.files[newest]))
		}
	}
}

// etcd-io/etcd#6368: a log's new file was not there after a power cut, because its directory was not synced. apache/kafka#10680 is the same for
// the segments of a partition: see package parquetfile for the files of a sink. Each group here begins a segment.
func TestField_Etcd6368_LostDirectoryEntry(t *testing.T) {
	for _, spares := range []int{-1, 1} {
		fsys := crashfs.New()
		opt := fieldOptions(fsys, 12<<10, spares)
		w := mustOpen(t, opt)
		w.spares.stop()
		o := &oracle{}
		for n := range uint32(5) {
			appendSent(t, w, o, 200+n)
			require.NoError(t, w.Sync())
			o.ack()
			everyState(t, fsys, holds(o, opt))
			require.EqualValues(t, n+1, w.segmentCount())
		}
		require.NoError(t, w.Close())
	}
}

// cockroachdb/pebble#567 and #580: the tail of a recycled log file, left from its earlier life, was replayed. Whatever a power cut leaves of a
// group in a recycled file, nothing of the earlier life comes back.
func TestField_Pebble567_RecycledTailIsReplayed(t *testing.T) {
	fsys := crashfs.New()
	opt := fieldOptions(fsys, 16<<10, 1)
	w := mustOpen(t, opt)
	w.spares.stop()
	o := &oracle{below: 1}
	recycled := false
	for n := range uint32(12) {
		appendSent(t, w, o, 900) // frames of equal size, so that old and new ones begin at the same places
		appendSent(t, w, o, 900)
		fsys.Before(func(op crashfs.Op) error {
			if op.Kind != crashfs.Sync {
				return nil
			}
			b, err := vfs.ReadFile(fsys.Freeze().Kill(), w.newest().path)
			require.NoError(t, err)
			recycled = recycled || n > 4 && len(framesIn(w.newest().name(), b)) < bytes.Count(b, []byte("IWF1"))
			then := *o
			opt := opt
			opt.FirstLSN = o.below
			visited, _, err := fsys.Freeze().Visit(crashlevel.Pick(t, 40, 300, 3000), uint64(n), func(f *crashfs.FS, _ uint64) error { return holds(&then, opt)(f) })
			require.NoError(t, err)
			require.NotZero(t, visited)
			return nil
		})
		require.NoError(t, w.Sync())
		fsys.Before(nil)
		o.ack()
		o.below = o.must[len(o.must)-1].first
		require.NoError(t, w.TruncateBelow(o.below))
	}
	require.True(t, recycled, "a file with frames of an earlier life was written to")
	require.NoError(t, w.Close())
}

// facebook/rocksdb#12489: a newer log file was durable, the end of the one before it was not, and recovery went on with a hole. No power cut
// leaves that (the syncs come in order); made by hand it is refused, since the newer segment names the end of the older.
func TestField_Rocksdb12489_NewerSegmentDurableOlderNot(t *testing.T) {
	fsys := crashfs.New()
	opt := fieldOptions(fsys, 16<<10, -1)
	w := mustOpen(t, opt)
	o := &oracle{}
	fsys.Before(func(op crashfs.Op) error {
		then := *o
		visited, _, err := fsys.Freeze().Visit(crashlevel.Pick(t, 30, 200, 2000), 1, func(f *crashfs.FS, _ uint64) error { return holds(&then, opt)(f) })
		require.NoError(t, err)
		require.NotZero(t, visited)
		return nil
	})
	for n := range uint32(5) {
		appendSent(t, w, o, 300+n)
		require.NoError(t, w.Sync())
		o.ack()
	}
	fsys.Before(nil)
	require.GreaterOrEqual(t, w.segmentCount(), 3)
	older := filepath.Join("wal", segmentName(1))
	f, err := fsys.OpenFile(older, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 4096), 8192) // its last group never got there
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, err = Open(context.Background(), opt)
	var refusal *CorruptionError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, segmentName(1), refusal.Segment)
	require.EqualValues(t, 8192, refusal.OffsetBytes)
}

// cockroachdb/cockroach#68319: a crash tore the log, the next start recovered and began a new log file, and crashed at once. Then the torn
// one was not the newest any more, so that its tail was taken for corruption, and no start succeeded again.
func TestField_Cockroach68319_CrashJustAfterRecovery(t *testing.T) {
	fsys := crashfs.New()
	opt := fieldOptions(fsys, 20<<10, -1)
	w := mustOpen(t, opt)
	o := &oracle{}
	appendSent(t, w, o, 500)
	require.NoError(t, w.Sync())
	o.ack()
	appendSent(t, w, o, 900)
	appendSent(t, w, o, 900)
	var torn *crashfs.Moment
	fsys.Before(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync {
			torn = fsys.Freeze()
		}
		return nil
	})
	require.NoError(t, w.Sync())
	fsys.Before(nil)
	require.NoError(t, w.Close())
	tails := map[int]bool{}
	visited, complete, err := torn.Visit(crashlevel.Pick(t, 100, 1296, 1296), 1, func(f *crashfs.FS, _ uint64) error {
		opt := opt
		opt.FS = f
		w, err := Open(context.Background(), opt)
		if err != nil {
			return err
		}
		got, err := identifyAll(w)
		if err = errors.Join(err, o.judge(got)); err != nil {
			return err
		}
		tails[len(got)] = true
		after := o.settled(got)
		var broken error
		f.Before(func(op crashfs.Op) error { // the new segment is under way
			_, _, err := f.Freeze().Visit(2, 1, func(f *crashfs.FS, _ uint64) error { return holds(&after, opt)(f) })
			broken = errors.Join(broken, err)
			return nil
		})
		e := sentEntry{w.NextLSN(), 2, 100}
		after.sent = []sentEntry{e}
		if _, err = w.Append(e.entry()); err == nil {
			err = w.Sync()
		}
		f.Before(nil)
		after.ack()
		return errors.Join(err, broken, holds(&after, opt)(f), w.Close())
	})
	require.NoError(t, err)
	t.Logf("%d states, all: %v", visited, complete)
	require.Equal(t, map[int]bool{1: true, 2: true, 3: true}, tails, "the group was torn in every way")
}

// influxdata/influxdb#26549: after a power loss the log had files of no length, and they were skipped. A segment has a durable header before it
// has its name, so that no power cut leaves one; where one is there all the same, the start is refused.
func TestField_Influxdb26549_EmptySegmentIsSkipped(t *testing.T) {
	fsys := crashfs.New()
	opt := fieldOptions(fsys, 12<<10, -1)
	fsys.Before(func(op crashfs.Op) error {
		_, _, err := fsys.Freeze().Visit(crashlevel.Pick(t, 30, 200, 2000), 1, func(f *crashfs.FS, _ uint64) error {
			names, _ := f.List("wal")
			for _, name := range names {
				if size, err := f.SizeBytes(filepath.Join("wal", name)); err == nil && size != 12<<10 && strings.HasSuffix(name, ".wal") {
					return fmt.Errorf("%s has %d bytes", name, size)
				}
			}
			return nil
		})
		require.NoError(t, err)
		return nil
	})
	w := mustOpen(t, opt)
	o := &oracle{}
	for n := range uint32(4) {
		appendSent(t, w, o, 200+n)
		require.NoError(t, w.Sync())
		o.ack()
	}
	fsys.Before(nil)
	require.NoError(t, w.Close())
	for id := uint64(1); id <= 4; id++ {
		f := fsys.Freeze().Kill()
		file, err := f.OpenFile(filepath.Join("wal", segmentName(id)), os.O_RDWR|os.O_TRUNC, 0)
		require.NoError(t, err)
		require.NoError(t, file.Sync())
		opt := opt
		opt.FS = f
		_, err = Open(context.Background(), opt)
		var refusal *CorruptionError
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, segmentName(id), refusal.Segment)
		require.Zero(t, refusal.OffsetBytes)
	}
}

// TestField_TwoCrashes_StaleFramesBehindTheTail: a group is torn so that only its later frames reach the disk; the file is then recovered,
// dropped, and used again, and a second group is torn right where the stale frames begin.
func TestField_TwoCrashes_StaleFramesBehindTheTail(t *testing.T) {
	fsys := crashfs.New()
	opt := Options{Dir: "wal", FS: fsys, SegmentSizeBytes: 32 << 10, MaxGroupBytes: 16 << 10, SpareSegments: -1}
	w := mustOpen(t, opt)
	big := func() Entry { return Entry{Records: 1, Parts: [2][]byte{make([]byte, 4096-frameHeaderBytes)}} }
	appendBig := func(n int) {
		for range n {
			_, err := w.Append(big())
			require.NoError(t, err)
		}
		require.NoError(t, w.Sync())
	}
	tear := func(name string, offset int64) {
		f, err := fsys.OpenFile(filepath.Join("wal", name), os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(make([]byte, 4096), offset)
		require.NoError(t, err)
	}
	appendBig(1)
	appendBig(3)
	first := w.newest()
	tear(first.name(), 2*4096) // the first frame of the second group
	w.spares.stop()

	w = mustOpen(t, opt)
	require.EqualValues(t, 2, w.NextLSN(), "the torn group is cut, its valid later frames with it")
	appendBig(1) // LSN 2 again, in a new segment
	require.EqualValues(t, 2, w.segmentCount())

	// The file of the first segment becomes the third one's: same place, stale frames behind every header.
	stale, err := vfs.ReadFile(fsys, filepath.Join("wal", first.name()))
	require.NoError(t, err)
	require.NoError(t, w.TruncateBelow(2))
	appendBig(2)
	appendBig(2) // fills the second segment
	f, err := fsys.OpenFile(filepath.Join("wal", "spare-99.tmp"), os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	_, err = f.WriteAt(append(stale, make([]byte, opt.SegmentSizeBytes-int64(len(stale)))...), 0)
	require.NoError(t, err)
	w.spares.put(filepath.Join("wal", "spare-99.tmp"))
	before := w.NextLSN()
	appendBig(3)
	third := w.newest()
	require.EqualValues(t, 3, third.header.id)
	got, err := vfs.ReadFile(fsys, filepath.Join("wal", third.name()))
	require.NoError(t, err)
	copied := stale[2*4096 : 4*4096]
	tear(third.name(), 4096)
	f, err = fsys.OpenFile(filepath.Join("wal", third.name()), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(copied, 2*4096) // the torn group left the stale sectors as they were
	require.NoError(t, err)
	require.NotEqual(t, got[2*4096:4*4096], copied)
	w.spares.stop()

	w = mustOpen(t, opt)
	require.Equal(t, before, w.NextLSN(), "nothing stale is taken for the log's")
	appendBig(1)
	require.NoError(t, w.Close())
}
