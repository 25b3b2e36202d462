package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// sentEntry identifies an entry in the crash tests: the LSN that it got, and the attempt, because an LSN that was lost before
// its ack is given out again, to other bytes.
type sentEntry struct {
	first   LSN
	attempt uint32
}

func (s sentEntry) entry() Entry {
	r := rand.New(rand.NewPCG(s.first, uint64(s.attempt)))
	payload := make([]byte, 12+r.IntN(1800))
	binary.LittleEndian.PutUint64(payload, s.first)
	binary.LittleEndian.PutUint32(payload[8:], s.attempt)
	for i := 12; i < len(payload); i++ {
		payload[i] = byte(s.first + LSN(i))
	}
	return Entry{Records: 1 + r.Uint32N(3), Parts: [2][]byte{payload, nil}}
}

// identify returns which entry a frame is, and fails unless it is exactly that.
func identify(f Frame) (sentEntry, error) {
	if len(f.Payload) < 12 {
		return sentEntry{}, fmt.Errorf("frame of %d bytes at LSN %d was never sent", len(f.Payload), f.First)
	}
	s := sentEntry{binary.LittleEndian.Uint64(f.Payload), binary.LittleEndian.Uint32(f.Payload[8:])}
	e := s.entry()
	if s.first != f.First || e.Records != f.Records || !bytes.Equal(e.Parts[0], f.Payload) {
		return s, fmt.Errorf("frame at LSN %d differs from what was sent", f.First)
	}
	return s, nil
}

// oracle knows what a log must hold after a power cut at this moment: all of must, then any first part of sent.
type oracle struct {
	must []sentEntry // acked, or handed to a sink by an earlier replay
	sent []sentEntry // appended since
	// below is what the sinks have flushed, plus 1: the log may have dropped all of must that is below.
	below LSN
}

// ack moves what was sent to what must be there.
func (o *oracle) ack() { o.must, o.sent = append(o.must[:len(o.must):len(o.must)], o.sent...), nil }

// judge compares a replay with what must be there.
func (o *oracle) judge(got []sentEntry) error {
	must := o.must
	if len(got) > 0 {
		for len(must) > 0 && must[0].first < got[0].first && must[0].first < o.below {
			must = must[1:]
		}
	} else {
		for len(must) > 0 && must[0].first < o.below {
			must = must[1:]
		}
	}
	if len(got) < len(must) {
		return fmt.Errorf("%d entries are there, %d must be: acked data is lost", len(got), len(must))
	}
	for i, want := range must {
		if got[i] != want {
			return fmt.Errorf("entry %d is %v, must be %v", i, got[i], want)
		}
	}
	for i, extra := range got[len(must):] {
		if i >= len(o.sent) || extra != o.sent[i] {
			return fmt.Errorf("%v was not sent, or not in this order", extra)
		}
	}
	return nil
}

// crashTest cuts the power at every operation of a run, several times, and recovers from what is found; and it cuts the power
// during the recovery, and recovers again. The goroutine that prepares spares is stopped once a log is open, so that the seed
// alone decides what happens; what it would do, Open does too.
type crashTest struct {
	rng    *rand.Rand
	states [3]int // by depth
	// perOp is how many states are tried at each operation, by depth.
	perOp [2]float64
}

func crashOptions(fsys *crashfs.FS) Options {
	return Options{Dir: "wal", FS: fsys, SegmentSizeBytes: 24 << 10, MaxGroupBytes: 8 << 10, SpareSegments: 1}
}

// hook returns what runs before each operation on fsys: the power is cut there.
func (c *crashTest) hook(fsys *crashfs.FS, depth int, o *oracle, fail func(error)) func(crashfs.Op) error {
	return func(op crashfs.Op) error {
		for n := c.perOp[depth]; n > 0 && (n >= 1 || c.rng.Float64() < n); n-- {
			if err := c.recover(fsys.Crash(c.rng), depth+1, *o); err != nil {
				fail(fmt.Errorf("power cut, depth %d, before %s of %s: %w", depth+1, op.Kind, op.Name, err))
			}
		}
		return nil
	}
}

// recover opens a log as a power cut left it, judges what it holds, goes on writing, and looks again.
func (c *crashTest) recover(fsys *crashfs.FS, depth int, o oracle) (err error) {
	c.states[depth]++
	if depth < len(c.perOp) {
		fsys.Before(c.hook(fsys, depth, &o, func(e error) {
			if err == nil {
				err = e
			}
		}))
	}
	for range 2 {
		if e := c.openAndWrite(fsys, depth, &o); e != nil {
			return e
		}
	}
	return err
}

// openAndWrite opens the log, judges its contents, and adds a group.
func (c *crashTest) openAndWrite(fsys *crashfs.FS, depth int, o *oracle) error {
	opt := crashOptions(fsys)
	opt.FirstLSN = o.below
	w, err := Open(context.Background(), opt)
	if err != nil {
		return err
	}
	w.spares.stop()
	got, err := identifyAll(w)
	if err == nil {
		err = o.judge(got)
	}
	if err != nil {
		return err
	}
	o.must, o.sent = got, nil
	for range 2 {
		s := sentEntry{w.NextLSN(), c.rng.Uint32()}
		o.sent = append(o.sent, s)
		if _, err := w.Append(s.entry()); err != nil {
			return err
		}
	}
	if err := w.Sync(); err != nil {
		return err
	}
	o.ack()
	if got, err = identifyAll(w); err != nil {
		return err
	}
	return o.judge(got)
}

func identifyAll(w *WAL) (got []sentEntry, err error) {
	err = w.Replay(context.Background(), 0, func(f Frame) error {
		s, err := identify(f)
		got = append(got, s)
		return err
	})
	return got, err
}

func TestPowerCutAnywhere(t *testing.T) {
	const seed = 20240611
	t.Logf("seed %d", seed)
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // much garbage, little of it alive
	c := &crashTest{rng: rand.New(rand.NewPCG(seed, 1)), perOp: [2]float64{12, 0.1}}
	fsys := crashfs.New()
	o := &oracle{below: 1}
	fsys.Before(c.hook(fsys, 0, o, func(err error) { require.NoError(t, err) }))

	for run := range 3 {
		opt := crashOptions(fsys)
		opt.FirstLSN = o.below
		w := mustOpen(t, opt)
		w.spares.stop()
		for group := range 24 {
			for range 1 + c.rng.IntN(4) {
				s := sentEntry{w.NextLSN(), uint32(run)}
				o.sent = append(o.sent, s)
				_, err := w.Append(s.entry())
				require.NoError(t, err)
			}
			require.NoError(t, w.Sync())
			o.ack()
			if group%5 == 4 {
				require.NoError(t, w.MarkDurable())
			}
			if w.segmentCount() > 3 {
				o.below = o.must[len(o.must)-6].first
				require.NoError(t, w.TruncateBelow(o.below))
			}
		}
		require.NoError(t, w.Close())
	}
	t.Logf("states: %d after one power cut, %d after a second one during recovery", c.states[1], c.states[2])
	require.Greater(t, c.states[1], 4000)
	require.Greater(t, c.states[2], 10000)
}

// TestKillThenPowerCut kills the process at every operation: the next one finds what the page cache holds, and hands it to
// the sinks. A power cut after that must not take it back.
func TestKillThenPowerCut(t *testing.T) {
	const seed = 4711
	rng := rand.New(rand.NewPCG(seed, seed))
	states, unacked := 0, 0
	for n, killed := 1, true; killed; n++ {
		fsys := crashfs.New()
		o := &oracle{below: 1}
		killed = runUntilKilled(t, fsys, o, n)

		w := mustOpen(t, killOptions(fsys))
		got, err := identifyAll(w)
		require.NoError(t, err)
		require.NoError(t, o.judge(got), "killed at operation %d", n)
		w.spares.stop()
		if len(got) > len(o.must) {
			unacked++
		}
		o.must, o.sent = got, nil
		for range 20 {
			states++
			after := mustOpen(t, killOptions(fsys.Crash(rng)))
			got, err := identifyAll(after)
			require.NoError(t, err)
			require.NoError(t, o.judge(got), "seed %d, killed at operation %d, then a power cut", seed, n)
			require.NoError(t, after.Close())
		}
	}
	t.Logf("%d states; %d kills left an unacknowledged group in the page cache", states, unacked)
	require.Greater(t, states, 1000)
	require.Positive(t, unacked)
}

func killOptions(fsys *crashfs.FS) Options {
	opt := crashOptions(fsys)
	opt.SpareSegments = -1
	return opt
}

// runUntilKilled writes to a new log and stops dead before the n-th operation; it reports false when there were fewer.
func runUntilKilled(t *testing.T, fsys *crashfs.FS, o *oracle, n int) (killed bool) {
	type kill struct{}
	var w *WAL
	fsys.Before(func(crashfs.Op) error {
		if n--; n == 0 {
			panic(kill{})
		}
		return nil
	})
	defer func() {
		fsys.Before(nil)
		if w != nil {
			w.spares.stop()
		}
		if r := recover(); r != nil {
			require.Equal(t, kill{}, r)
			killed = true
		}
	}()
	w = mustOpen(t, killOptions(fsys))
	for range 20 {
		for range 3 {
			s := sentEntry{w.NextLSN(), 0}
			o.sent = append(o.sent, s)
			_, err := w.Append(s.entry())
			require.NoError(t, err)
		}
		require.NoError(t, w.Sync())
		o.ack()
	}
	return false
}
