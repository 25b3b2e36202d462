package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// specimen is a log of 64 KiB as files in memory, in which every kind of place is found: small frames and a big one, several segments,
// files that had an earlier life whose frames are still there, and at the end a group that a crash tore. The judge knows what was sent and,
// from docs/wal-format.md, where frames lie; it shares no code with the log.
type specimen struct {
	files  map[string][]byte
	names  []string // of the segments, ascending
	moment *crashfs.Moment
	frames []place // of the entries, in the order of the log
	// must are the entries that were acked, torn those of the torn group. The last group of must is provable only by the header of the torn
	// one after it, and begins at entry unprovable.
	must, torn []sentEntry
	unprovable int
	// stale are frames and sectors of earlier lives of the files.
	stale [][]byte
}

// place is where a frame lies.
type place struct {
	segment     string
	offset, end int
}

func specimenOptions(fsys *crashfs.FS) Options {
	return Options{Dir: "wal", FS: fsys, SegmentSizeBytes: 16 << 10, MaxGroupBytes: 8 << 10, SpareSegments: 1, DirectIO: DirectOff}
}

// newSpecimen writes the log.
func newSpecimen(t testing.TB) *specimen {
	t.Helper()
	fsys := crashfs.New()
	w := mustOpen(t, specimenOptions(fsys))
	w.spares.stop()
	s := &specimen{files: map[string][]byte{}}
	group := func(sync bool, payloadBytes ...uint32) {
		var list []sentEntry
		for _, n := range payloadBytes {
			e := sentEntry{w.NextLSN(), 1, n}
			list = append(list, e)
			_, err := w.Append(e.entry())
			require.NoError(t, err)
		}
		if !sync {
			s.torn = list
			return
		}
		require.NoError(t, w.Sync())
		s.unprovable = len(s.must)
		s.must = append(s.must, list...)
	}
	for n := range uint32(8) { // lives that end
		group(true, 300+n, 900, 500)
		group(true, 1500+n, 100, 100, 1000)
		if n == 3 || n == 6 {
			s.keepStale(t, fsys)
		}
		require.NoError(t, w.TruncateBelow(w.NextLSN()))
	}
	s.must = nil
	group(true, 16, 64, 700, 1) // the log begins with the segment that this one closes
	s.must = nil
	for w.fits(vfs.BlockBytes) {
		group(true, 50)
	}
	s.must = nil
	group(true, 200, 17, 900)
	group(true, 1000, 1000)
	require.NoError(t, w.TruncateBelow(s.must[0].first))
	group(true, 7000, 300)
	group(true, 40, 41, 42, 43, 44)
	w = mustOpen(t, specimenOptions(fsys)) // as after a kill: the segment ends here, and behind it lie frames of its earlier life
	w.spares.stop()
	group(true, 64, 1200)
	group(false, 900, 900, 900)
	s.tear(t, w, fsys)
	s.take(t, fsys)
	return s
}

// keepStale keeps frames and sectors of files that are about to get another life.
func (s *specimen) keepStale(t testing.TB, fsys *crashfs.FS) {
	names, err := fsys.List("wal")
	require.NoError(t, err)
	for _, name := range names {
		b, err := vfs.ReadFile(fsys, filepath.Join("wal", name))
		require.NoError(t, err)
		for _, f := range framesIn(name, b) {
			s.stale = append(s.stale, bytes.Clone(b[f.offset:f.end]), bytes.Clone(b[f.offset/512*512:f.offset/512*512+512]))
		}
	}
}

// tear writes the group that was appended so that only some of its sectors get to the disk.
func (s *specimen) tear(t testing.TB, w *WAL, fsys *crashfs.FS) {
	newest := filepath.Join("wal", w.newest().name())
	before, err := vfs.ReadFile(fsys, newest)
	require.NoError(t, err)
	at := int(w.newest().endBytes)
	require.NoError(t, w.Sync())
	f, err := fsys.OpenFile(newest, os.O_RDWR, 0)
	require.NoError(t, err)
	for _, lost := range []int{2, 5} { // sectors
		_, err = f.WriteAt(before[at+lost*512:][:512], int64(at+lost*512))
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
}

// take takes the files as they are.
func (s *specimen) take(t testing.TB, fsys *crashfs.FS) {
	s.moment = fsys.Freeze()
	names, err := fsys.List("wal")
	require.NoError(t, err)
	total := 0
	for _, name := range names {
		b, err := vfs.ReadFile(fsys, filepath.Join("wal", name))
		require.NoError(t, err)
		s.files[name] = b
		if strings.HasSuffix(name, ".wal") {
			s.names = append(s.names, name)
			s.frames = append(s.frames, framesIn(name, b)...)
			total += len(b)
		}
	}
	require.Equal(t, 64<<10, total)
	count := map[string]int{}
	for _, f := range s.frames {
		count[f.segment]++
	}
	require.GreaterOrEqual(t, len(s.stale), 20)
	require.Equal(t, len(s.must)+1, len(s.frames), "one frame of the torn group is whole: %v", count)
	ended := s.names[len(s.names)-2]
	require.Greater(t, bytes.Count(s.files[ended], []byte("IWF1")), count[ended], "%s had an earlier life", ended)
}

// framesIn lists the frames of a segment, up to the first that is not whole: magic, epoch and checksum must be right.
func framesIn(name string, b []byte) (frames []place) {
	le := binary.LittleEndian
	for at := 4096; at+64 <= len(b) && string(b[at:at+4]) == "IWF1"; {
		end := at + (64+int(le.Uint32(b[at+8:]))+63)&^63
		if end > len(b) || !bytes.Equal(b[at+24:at+32], b[40:48]) {
			break
		}
		sum := crc32.Update(crc32.Checksum(b[at:at+60], crc32.MakeTable(crc32.Castagnoli)), crc32.MakeTable(crc32.Castagnoli), b[at+64:end])
		if sum != le.Uint32(b[at+60:]) {
			break
		}
		frames = append(frames, place{name, at, end})
		last := le.Uint16(b[at+6:])&1 == 1
		if at = end; last {
			at = (at + 4095) &^ 4095
		}
	}
	return frames
}

// outcomes counts what became of damaged logs.
type outcomes struct {
	whole, cut, refused atomic.Int64
}

// try opens the log with one file changed and judges the outcome: all acked entries are there, byte by byte, and nothing that was not sent; or
// the group of which nothing is left to prove that it had been synced is cut; or the start is refused with the place of the damage.
func (s *specimen) try(name string, contents []byte, count *outcomes) error {
	fsys := s.moment.Kill()
	path := filepath.Join("wal", name)
	f, err := fsys.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt(contents, 0); err != nil {
		return err
	}
	return s.open(fsys, map[string][]byte{name: contents}, count)
}

func (s *specimen) open(fsys *crashfs.FS, changed map[string][]byte, count *outcomes) error {
	opt := specimenOptions(fsys)
	opt.SpareSegments, opt.FirstLSN = -1, s.must[0].first
	w, err := Open(context.Background(), opt)
	if err != nil {
		count.refused.Add(1)
		return s.judgeRefusal(err, changed)
	}
	got, err := identifyAll(w)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("open took what replay refuses: %w", err)
	}
	sent := slices.Concat(s.must, s.torn)
	switch {
	case len(got) > len(sent) || !slices.Equal(got, sent[:len(got)]):
		return fmt.Errorf("silence: %v were never sent in this order", got)
	case len(got) >= len(s.must):
		count.whole.Add(1)
		return nil
	case len(got) >= s.unprovable && s.proofIsGone(changed):
		count.cut.Add(1)
		return nil
	}
	return fmt.Errorf("silence: of %d entries that were acked %d are there", len(s.must), len(got))
}

// proofIsGone says whether no header of the torn group is as it was.
func (s *specimen) proofIsGone(changed map[string][]byte) bool {
	newest := s.names[len(s.names)-1]
	was, is := s.files[newest], changed[newest]
	if is == nil {
		return false
	}
	begin := (s.frames[len(s.frames)-1].offset) &^ 4095 // the torn group
	for at := begin; at+64 <= len(was) && at+64 <= len(is); at += 64 {
		if string(was[at:at+4]) == "IWF1" && bytes.Equal(was[at+24:at+32], was[40:48]) && bytes.Equal(was[at:at+64], is[at:at+64]) {
			return false
		}
	}
	return true
}

// judgeRefusal holds a refusal to the place of the damage: the first changed header, or else the first changed frame.
func (s *specimen) judgeRefusal(err error, changed map[string][]byte) error {
	refusal, ok := errors.AsType[*CorruptionError](err)
	if !ok || refusal.Reason == "" {
		return fmt.Errorf("a refusal without a place or a reason: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		was, is := s.files[name], changed[name]
		if len(is) < 4096 || !bytes.Equal(was[:4096], is[:4096]) {
			return at(refusal, name, 0)
		}
	}
	newest := s.names[len(s.names)-1]
	for _, f := range s.frames {
		is, other := changed[f.segment]
		if other && (len(is) < f.end || !bytes.Equal(s.files[f.segment][f.offset:f.end], is[f.offset:f.end])) {
			if f.segment == newest && len(is) != len(s.files[newest]) {
				return at(refusal, newest, len(is))
			}
			return at(refusal, f.segment, f.offset)
		}
	}
	if is, other := changed[newest]; other && len(is) != len(s.files[newest]) {
		return at(refusal, newest, len(is))
	}
	// Nothing of the log is changed, and yet frames of this life lie where none can be.
	last := s.frames[len(s.frames)-1]
	return at(refusal, newest, last.end)
}

func at(refusal *CorruptionError, segment string, offset int) error {
	if refusal.Segment != segment || refusal.OffsetBytes != int64(offset) {
		return fmt.Errorf("the damage is at byte %d of %s: %w", offset, segment, refusal)
	}
	return nil
}

// parallel calls try for 0 to n-1, every step-th, on all processors and returns the first error and how many calls there were.
func parallel(n, step int, try func(i int) error) (calls int64, err error) {
	var once sync.Once
	var group sync.WaitGroup
	var count, next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for {
				i := int(next.Add(1)-1) * step
				if i >= n {
					return
				}
				count.Add(1)
				if e := try(i); e != nil {
					once.Do(func() { err = e })
					next.Store(int64(n)) // the others stop
					return
				}
			}
		})
	}
	group.Wait()
	return count.Load(), err
}

// locate finds the byte at a position of the log as a whole.
func (s *specimen) locate(position int) (name string, offset int) {
	for _, name := range s.names {
		if position < len(s.files[name]) {
			return name, position
		}
		position -= len(s.files[name])
	}
	panic("position behind the log")
}

// TestEveryDamage damages the log in every way: one of three outcomes follows, each of which the judge tells from the others by itself.
func TestEveryDamage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	s := newSpecimen(t)
	run := crashlevel.Start(t, "damaged WAL", "openings", "./ingestor/internal/wal")
	rng := rand.New(rand.NewPCG(run.Seed(), 1))
	all := func(n, brief int, what string, try func(i int, count *outcomes) error) {
		t.Helper()
		var count outcomes
		step := crashlevel.Pick(t, -max(1, n/brief), -1, -1)
		calls, err := parallel(n, -step, func(i int) error { return try(i, &count) })
		run.Explored(calls)
		t.Logf("%s: %d whole, %d cut, %d refused", what, count.whole.Load(), count.cut.Load(), count.refused.Load())
		require.NoError(t, err, what)
		require.NotZero(t, count.refused.Load(), what)
	}
	const bytesInAll, sectors = 64 << 10, 128
	all(8*bytesInAll, 3001, "every bit flipped", func(i int, count *outcomes) error {
		name, offset := s.locate(i / 8)
		b := bytes.Clone(s.files[name])
		b[offset] ^= 1 << (i % 8)
		return describeDamage(s.try(name, b, count), "bit %d of byte %d of %s", i%8, offset, name)
	})
	all(bytesInAll, 503, "every length", func(i int, count *outcomes) error {
		name, length := s.locate(i)
		return describeDamage(s.try(name, s.files[name][:length], count), "%s cut to %d bytes", name, length)
	})
	for _, size := range []int{512, 4096} {
		n := bytesInAll / size
		all(n, n, fmt.Sprintf("every sector of %d bytes zeroed", size), func(i int, count *outcomes) error {
			name, offset := s.locate(i * size)
			b := bytes.Clone(s.files[name])
			clear(b[offset : offset+size])
			return describeDamage(s.try(name, b, count), "%d bytes of zeros at %d of %s", size, offset, name)
		})
		seed := rng.Uint64()
		all(n, n, fmt.Sprintf("every sector of %d bytes filled with garbage", size), func(i int, count *outcomes) error {
			name, offset := s.locate(i * size)
			b := bytes.Clone(s.files[name])
			garble(b[offset:offset+size], rand.New(rand.NewPCG(seed, uint64(i))))
			return describeDamage(s.try(name, b, count), "%d bytes of garbage at %d of %s", size, offset, name)
		})
		all(n*n, 600, fmt.Sprintf("every two sectors of %d bytes swapped", size), func(i int, count *outcomes) error {
			x, y := i/n, i%n
			if x >= y {
				return nil
			}
			return describeDamage(s.swap(x*size, y*size, size, count), "%d bytes at %d and %d of the log swapped", size, x*size, y*size)
		})
	}
	pieces := slices.Clone(s.stale)
	for _, f := range s.frames { // of this life, at another place
		pieces = append(pieces, s.files[f.segment][f.offset:f.end])
	}
	var places []place
	for i := range sectors {
		name, offset := s.locate(i * 512)
		places = append(places, place{name, offset, 0})
	}
	places = append(places, s.frames...)
	all(len(pieces)*len(places), 600, "every frame of another life at every place", func(i int, count *outcomes) error {
		piece, to := pieces[i/len(places)], places[i%len(places)]
		b := bytes.Clone(s.files[to.segment])
		copy(b[to.offset:], piece)
		return describeDamage(s.try(to.segment, b, count), "piece %d at byte %d of %s", i/len(places), to.offset, to.segment)
	})
}

func describeDamage(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// swap swaps two places of the log as a whole.
func (s *specimen) swap(x, y, size int, count *outcomes) error {
	xName, x := s.locate(x)
	yName, y := s.locate(y)
	changed := map[string][]byte{xName: bytes.Clone(s.files[xName])}
	if changed[yName] == nil {
		changed[yName] = bytes.Clone(s.files[yName])
	}
	copy(changed[xName][x:x+size], s.files[yName][y:y+size])
	copy(changed[yName][y:y+size], s.files[xName][x:x+size])
	fsys := s.moment.Kill()
	for name, b := range changed {
		f, err := fsys.OpenFile(filepath.Join("wal", name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			return err
		}
	}
	return s.open(fsys, changed, count)
}

// maxOpeningBytes is what opening the specimen may allocate, whatever its lengths say: a window of 1 MiB, groups, and odds and ends.
const maxOpeningBytes = 2 << 20

// TestNoMemoryForACorruptLength sets every length there is to extremes, with a checksum that is wrong and with one that is right.
func TestNoMemoryForACorruptLength(t *testing.T) {
	s := newSpecimen(t)
	lengths := []uint32{0, 1, 8 << 10, 1 << 20, 64 << 20, 255 << 20, 256 << 20, 256<<20 + 1, 1 << 31, 1<<32 - 1}
	table := crc32.MakeTable(crc32.Castagnoli)
	le := binary.LittleEndian
	// What was forged with a right checksum is no damage, and may be refused at any place, or taken.
	try := func(name string, b []byte, forged bool) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var count outcomes
		err := s.try(name, b, &count)
		runtime.ReadMemStats(&after)
		if !forged {
			require.NoError(t, err)
		}
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(maxOpeningBytes), name)
	}
	var headers []place // legible headers of this life, those of the torn group included
	for _, name := range s.names {
		b := s.files[name]
		for at := 4096; at < len(b); at += 64 {
			if string(b[at:at+4]) == "IWF1" && bytes.Equal(b[at+24:at+32], b[40:48]) {
				headers = append(headers, place{name, at, 0})
			}
		}
	}
	require.Greater(t, len(headers), len(s.frames))
	for _, h := range headers {
		for _, length := range lengths {
			b := bytes.Clone(s.files[h.segment])
			le.PutUint32(b[h.offset+8:], length)
			try(h.segment, b, false)
			end := min(len(b), h.offset+64+int(min(length, 1<<20)))
			le.PutUint32(b[h.offset+60:], crc32.Update(crc32.Checksum(b[h.offset:h.offset+60], table), table, b[h.offset+64:end]))
			try(h.segment, b, true)
		}
	}
	for _, name := range s.names {
		for _, field := range []int{80, 88} { // size of the segment, largest group
			for _, value := range []uint64{0, 4096, 8 << 10, 256 << 20, 1 << 40, 1 << 63, 1<<64 - 1} {
				b := bytes.Clone(s.files[name])
				le.PutUint64(b[field:], value)
				try(name, b, false)
				le.PutUint32(b[4092:], crc32.Checksum(b[:4092], table))
				try(name, b, true)
			}
		}
	}
}
