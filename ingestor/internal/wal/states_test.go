package wal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// The power is cut before every operation of a run of the log, and every state, or a sample, of what that may leave is recovered, judged,
// written to and recovered again. The recovery is cut short at its operations in the same way, and so is that recovery's.
//
// The goroutine that prepares spares is stopped once a log is open, so that the seed alone decides what happens; what it would do, Open
// does too.

// stateTest is such a run.
type stateTest struct {
	explorer *crashfs.Explorer
	opt      Options // without FS and FirstLSN
	// bound is how many states of a moment are tried; of a moment at which only spares have unsynced changes, spareBound.
	bound, spareBound int
	// Every deepEvery-th recovery is cut short itself, fewer of those after a second cut, and deepBound states of each of its moments are tried.
	deepEvery uint64
	deepBound int
	deeper    atomic.Int64 // states within recoveries
}

// maxDepth is how many power cuts follow one another: the last two fall into recoveries.
const maxDepth = 3

// options are those to open a log with whose sinks have flushed what is below an LSN.
func (s *stateTest) options(fsys *crashfs.FS, below LSN) Options {
	opt := s.opt
	opt.Dir, opt.FS, opt.FirstLSN = "wal", fsys, below
	return opt
}

// open opens a log and stops its goroutine.
func (s *stateTest) open(fsys *crashfs.FS, below LSN) (*WAL, error) {
	w, err := Open(context.Background(), s.options(fsys, below))
	if err != nil {
		return nil, fmt.Errorf("the start is refused: %w", err)
	}
	w.spares.stop()
	return w, nil
}

// watch cuts the power before every operation on fsys. o is what the log must hold; it changes as the run goes on.
func (s *stateTest) watch(fsys *crashfs.FS, what string, o *oracle) {
	operation := 0
	fsys.Before(func(op crashfs.Op) error {
		operation++
		bound := s.bound
		if strings.Contains(op.Name, sparePrefix) && op.Kind != crashfs.Rename {
			bound = s.spareBound
		}
		m, then := fsys.Freeze(), *o
		where := fmt.Sprintf("%s: power cut before operation %d, %s of %s", what, operation, op.Kind, op.Name)
		s.explorer.Moment(m, bound, where, func(f *crashfs.FS, seed uint64) error { return s.recover(f, then, seed, 1) })
		if operation%3 == 0 {
			s.explorer.Moment(m, 1, where+", after a kill", func(_ *crashfs.FS, seed uint64) error { return s.kill(m, then, seed) })
		}
		return nil
	})
}

// later is a moment of a recovery, or of what it writes, and what must be found when the power is cut then.
type later struct {
	moment *crashfs.Moment
	must   oracle
	what   string
}

// recover opens a log as a power cut left it, judges what it holds, writes to it, and opens it once more.
func (s *stateTest) recover(f *crashfs.FS, o oracle, seed uint64, depth int) error {
	var cuts []later
	if depth < maxDepth && seed%(s.deepEvery<<(3*depth-3)) == 0 {
		f.Before(func(op crashfs.Op) error {
			cuts = append(cuts, later{f.Freeze(), o, string(op.Kind) + " of " + op.Name})
			return nil
		})
	}
	w, err := s.open(f, o.below)
	if err != nil {
		return err
	}
	got, err := identifyAll(w)
	if err == nil {
		err = o.judge(got)
	}
	if err != nil {
		return err
	}
	// Whatever the recovery did, another one in its place would find the same: it is idempotent.
	o = o.settled(got)
	for i := range cuts {
		cuts[i].must = o
	}
	if err := s.write(w, &o, seed); err != nil {
		return err
	}
	f.Before(nil)
	if w, err = s.open(f, o.below); err != nil {
		return fmt.Errorf("after the first start: %w", err)
	}
	if got, err = identifyAll(w); err == nil {
		err = o.judge(got)
	}
	if err != nil {
		return fmt.Errorf("after the first start: %w", err)
	}
	return s.again(cuts, seed, depth)
}

// write appends a group, syncs it and looks at the log as it is then.
func (s *stateTest) write(w *WAL, o *oracle, seed uint64) error {
	for i := range uint64(2) {
		e := sentEntry{w.NextLSN(), uint32(seed), minPayloadBytes + uint32((seed>>8+i*400)%1500)}
		o.sent = append(o.sent, e)
		if _, err := w.Append(e.entry()); err != nil {
			return err
		}
	}
	if err := w.Sync(); err != nil {
		return err
	}
	o.ack()
	got, err := identifyAll(w)
	if err == nil {
		err = o.judge(got)
	}
	return err
}

// again recovers from the states of the moments of a recovery.
func (s *stateTest) again(cuts []later, seed uint64, depth int) error {
	for i, c := range cuts {
		visited, _, err := c.moment.Visit(s.deepBound, seed+uint64(i), func(f *crashfs.FS, seed uint64) error {
			return s.recover(f, c.must, seed, depth+1)
		})
		s.deeper.Add(visited)
		if err != nil {
			return fmt.Errorf("power cut %d before operation %d of the recovery, %s: %w", depth+1, i+1, c.what, err)
		}
	}
	return nil
}

// kill lets the program die and the next one go on with what is in the page cache. Until its Open has returned, a power cut may take that
// back; what it then hands to the sinks, a power cut must not.
func (s *stateTest) kill(m *crashfs.Moment, o oracle, seed uint64) error {
	f := m.Kill()
	var during []later
	f.Before(func(op crashfs.Op) error {
		during = append(during, later{f.Freeze(), o, string(op.Kind) + " of " + op.Name})
		return nil
	})
	w, err := s.open(f, o.below)
	f.Before(nil)
	if err != nil {
		return err
	}
	got, err := identifyAll(w)
	if err == nil {
		err = o.judge(got)
	}
	if err != nil {
		return err
	}
	return s.again(append(during, later{f.Freeze(), o.settled(got), "the end"}), seed, 1)
}

// life is a log that is written to, and its ledger.
type life struct {
	t    testing.TB
	test *stateTest
	fsys *crashfs.FS
	o    *oracle
	w    *WAL
	runs uint32
}

func newLife(t testing.TB, s *stateTest, what string) *life {
	l := &life{t: t, test: s, fsys: crashfs.New(), o: &oracle{below: 1}}
	s.watch(l.fsys, what, l.o)
	l.open()
	return l
}

func (l *life) open() {
	w, err := l.test.open(l.fsys, l.o.below)
	require.NoError(l.t, err)
	l.w = w
	l.runs++
}

// group appends entries with payloads of these sizes and syncs them.
func (l *life) group(payloadBytes ...uint32) {
	for _, n := range payloadBytes {
		e := sentEntry{l.w.NextLSN(), l.runs, n}
		l.o.sent = append(l.o.sent, e)
		_, err := l.w.Append(e.entry())
		require.NoError(l.t, err)
	}
	require.NoError(l.t, l.w.Sync())
	l.o.ack()
}

// truncate lets the sinks have all but the last entries, and cuts the log.
func (l *life) truncate(keep int) {
	below := l.w.NextLSN()
	if keep = min(keep, len(l.o.must)); keep > 0 {
		below = l.o.must[len(l.o.must)-keep].first
	}
	l.o.below = max(l.o.below, below)
	require.NoError(l.t, l.w.TruncateBelow(l.o.below))
}

func (l *life) close() { require.NoError(l.t, l.w.Close()) }

// smallLogs are runs so small that every state of nearly every moment can be tried.
var smallLogs = []struct {
	name string
	opt  Options
	run  func(*life)
}{
	{"a few groups", Options{SegmentSizeBytes: 20 << 10, MaxGroupBytes: 4 << 10, SpareSegments: -1}, func(l *life) {
		l.group(700, 900)
		l.group(100)
		l.group(16, 3000)
		l.close()
		l.open()
		l.group(300)
	}},
	{"a segment for each group", Options{SegmentSizeBytes: 12 << 10, MaxGroupBytes: 4 << 10, SpareSegments: -1}, func(l *life) {
		l.group(700, 900)
		l.group(1500)
		l.group(40, 40, 40)
		l.truncate(2)
		l.group(600)
		l.open() // as after a kill
		l.group(1000)
		l.truncate(0)
	}},
	{"recycled segments", Options{SegmentSizeBytes: 12 << 10, MaxGroupBytes: 4 << 10, SpareSegments: 1}, func(l *life) {
		for n := range uint32(6) {
			l.group(700+n, 900)
			l.truncate(1)
		}
		l.group(300, 300, 300)
	}},
	{"recycled segments of several groups", Options{SegmentSizeBytes: 20 << 10, MaxGroupBytes: 8 << 10, SpareSegments: 1}, func(l *life) {
		for n := range uint32(8) {
			l.group(1200+n, 200)
			l.truncate(1)
		}
		l.group(5000, 100)
		l.close()
		l.open()
		l.group(2000)
	}},
	{"proofs and seals", Options{SegmentSizeBytes: 16 << 10, MaxGroupBytes: 4 << 10, SpareSegments: 1}, func(l *life) {
		l.group(500)
		require.NoError(l.t, l.w.MarkDurable())
		l.open()
		require.NoError(l.t, l.w.MarkDurable())
		l.group(600)
		l.open()
		require.NoError(l.t, l.w.MarkDurable())
		l.close()
		l.open()
		l.close()
	}},
}

// TestEveryStateOfASmallLog tries every state that a power cut can leave at any moment of small runs.
func TestEveryStateOfASmallLog(t *testing.T) {
	run := crashlevel.Start(t, "WAL states, small runs", "states", "./ingestor/internal/wal")
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // much garbage, little of it alive
	for i, small := range smallLogs {
		s := &stateTest{
			explorer: &crashfs.Explorer{Seed: run.Seed() + uint64(i)}, opt: small.opt,
			bound: crashlevel.Pick(t, 8, 22_000, 1_000_000), spareBound: crashlevel.Pick(t, 4, 60, 2000),
			deepEvery: uint64(crashlevel.Pick(t, 100, 20, 20)), deepBound: crashlevel.Pick(t, 3, 5, 20),
		}
		small.run(newLife(t, s, small.name))
		explored, complete, err := s.explorer.Wait()
		run.Explored(explored + s.deeper.Load())
		t.Logf("%s: %d states, %d within recoveries; of %d moments all", small.name, explored, s.deeper.Load(), complete)
		require.NoError(t, err)
	}
}

// TestStatesOfLongLives tries some states at every moment of runs that are drawn: logs that are written to, cut, closed, killed, cut off
// from power and opened again.
func TestStatesOfLongLives(t *testing.T) {
	run := crashlevel.Start(t, "WAL states, long lives", "states", "./ingestor/internal/wal")
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	target := int64(crashlevel.Pick(t, 1000, 780_000, 80_000_000))
	var states int64
	for n := uint64(0); states < target; n++ {
		seed := run.Seed() + n
		rng := rand.New(rand.NewPCG(seed, 1))
		group := 4 << 10 << rng.IntN(3)
		s := &stateTest{
			explorer: &crashfs.Explorer{Seed: seed},
			opt: Options{
				MaxGroupBytes: group, SegmentSizeBytes: minSegmentBytes(group) + int64(rng.IntN(4))*4096, SpareSegments: rng.IntN(4) - 1,
			},
			bound: crashlevel.Pick(t, 5, 100, 400), spareBound: 3, deepEvery: 16, deepBound: 4,
		}
		live(newLife(t, s, fmt.Sprintf("life %d", n)), rng, crashlevel.Pick(t, 15, 60, 60))
		explored, _, err := s.explorer.Wait()
		states += explored + s.deeper.Load()
		run.Explored(explored + s.deeper.Load())
		require.NoError(t, err, "life %d of seed %d", n, run.Seed())
	}
}

// live does what rng says.
func live(l *life, rng *rand.Rand, steps int) {
	for range steps {
		switch p := rng.IntN(100); {
		case p < 65:
			var sizes []uint32
			for left := l.w.opt.MaxGroupBytes; len(sizes) < 6; {
				n := minPayloadBytes + rng.IntN(1+rng.IntN(left))
				if left -= frameBytes(n); left < 0 {
					break
				}
				sizes = append(sizes, uint32(n))
				if left < 200 {
					break
				}
			}
			if len(sizes) > 0 {
				l.group(sizes...)
			}
		case p < 72:
			require.NoError(l.t, l.w.MarkDurable())
		case p < 88:
			l.truncate(rng.IntN(6))
		case p < 92:
			l.close()
			l.open()
		case p < 96:
			l.open() // as after a kill
		default:
			l.powerCut(rng)
		}
	}
}

// powerCut goes on with one of the states that a power cut leaves.
func (l *life) powerCut(rng *rand.Rand) {
	l.fsys = l.fsys.Crash(rng)
	l.test.watch(l.fsys, fmt.Sprintf("run %d", l.runs+1), l.o)
	l.open()
	got, err := identifyAll(l.w)
	require.NoError(l.t, err)
	require.NoError(l.t, l.o.judge(got))
	l.o.must, l.o.sent = slices.Clone(got), nil
}
