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
