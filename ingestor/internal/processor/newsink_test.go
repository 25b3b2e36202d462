package processor

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// The log is cut by whole segments, so that a sink which is added may find in it what lies below the low watermark.
func TestASinkThatIsAddedStartsBelowTheLowWatermark(t *testing.T) {
	fsys := crashfs.New()
	old, added := newSink("old"), newSink("added")
	w := mustOpen(t, fsys, testSettings(), old)
	w.ingest(t, 1, 10)
	w.settle(t)
	w.drain(t)

	set := testSettings()
	set.processor.ReplayRecords = 20 // several pieces for what is in the log
	var pieces atomic.Int32
	checkpointed := make(chan struct{})
	added.before = func() error {
		if pieces.Add(1) == 2 {
			<-checkpointed
		}
		return nil
	}
	w = mustOpen(t, fsys, set, old, added)
	w.waitForSink(t, 1, 20)
	require.Eventually(t, func() bool { return len(w.fatal) > 0 || w.manifest.Flushed("added") == 20 }, 20*time.Second, time.Millisecond)
	close(checkpointed)
	w.drain(t)
	requireSequences(t, added, 10)
	require.EqualValues(t, 100, w.manifest.State().LowWatermark)
}

func TestASinkThatLacksWhatTheLogDroppedStartsOnlyWhenTold(t *testing.T) {
	fsys := crashfs.New()
	old, added := newSink("old"), newSink("added")
	w := mustOpen(t, fsys, testSettings(), old)
	w.ingest(t, 1, 50)
	w.settle(t)
	w.drain(t)

	_, err := open(fsys, testSettings(), old, added)
	require.ErrorIs(t, err, ErrMisplaced)
	require.ErrorContains(t, err, "--added.start=now")
	require.Zero(t, added.database.flushed)

	set := testSettings()
	set.processor.StartNow = []string{"added"}
	added.asked = func() error { return errDown }
	_, err = open(fsys, set, old, added)
	require.ErrorIs(t, err, errDown, "its checkpoint cannot be moved while it is down")

	added.asked = nil
	w = mustOpen(t, fsys, set, old, added)
	first := w.log.FirstLSN()
	require.Greater(t, first, uint64(1))
	w.ingest(t, 51, 60)
	w.settle(t)
	w.drain(t)
	require.Len(t, old.database.batches, 60)
	require.EqualValues(t, 600, added.database.flushed)
	require.Len(t, added.database.batches, 60-int(first-1)/10, "all that the log had")

	w = mustOpen(t, fsys, testSettings(), old, added) // caught up, it needs no permission any more
	w.drain(t)

	// Its database is lost, and replaced by an empty one.
	added = newSink("added")
	_, err = open(fsys, testSettings(), old, added)
	require.ErrorIs(t, err, ErrMisplaced)
	w = mustOpen(t, fsys, set, old, added)
	w.ingest(t, 61, 61)
	w.settle(t)
	w.drain(t)
	require.EqualValues(t, 610, added.database.flushed)
	require.Contains(t, added.database.batches, batchID{1, 61})
}
