package ingestion

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
)

// Between Admit and Submit the service may have been closed. What it does not take then it must not answer as taken, at any level.
func TestABatchThatComesAfterTheDrainIsRefused(t *testing.T) {
	for _, level := range []AckLevel{Buffered, WALSynced, Committed} {
		r := newRig(t, testConfig())
		s := r.submission("late", 1, level)
		s.Done = func(*Submission) { t.Errorf("a batch of level %d was answered, and dropped", level) }
		require.NoError(t, r.Admit(context.Background(), s, len(s.Raw)))
		require.NoError(t, r.Drain(context.Background()))
		requireCode(t, refusal.Unavailable, r.Submit(s))
		require.NotNil(t, s.Buf, "it is still the caller's")
		s.Buf.Release()
		require.Empty(t, r.logged())
	}
}

// A batch is committed with its last record, not with its first.
func TestWaitersGoWithTheirLastRecord(t *testing.T) {
	var w waiters
	one := &Submission{FirstLSN: 1, LastLSN: 10}
	two := &Submission{FirstLSN: 11, LastLSN: 20}
	require.True(t, w.add(two))
	require.True(t, w.add(one))
	require.Empty(t, w.takeUpTo(9))
	require.Equal(t, []*Submission{one}, w.takeUpTo(19))
	require.True(t, w.add(&Submission{FirstLSN: 15, LastLSN: 25}), "its end is not committed")
	require.False(t, w.add(&Submission{FirstLSN: 5, LastLSN: 19}), "it is committed already")
	require.Equal(t, []*Submission{two}, w.takeUpTo(20))
	require.Equal(t, 1, w.len())
}
