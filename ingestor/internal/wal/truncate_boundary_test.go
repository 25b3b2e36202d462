package wal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A segment stays as long as the LSN below which nothing is needed does not lie behind its last one.
func TestASegmentStaysForItsLastRecord(t *testing.T) {
	w := mustOpen(t, smallOptions(t.TempDir()))
	for w.segmentCount() < 6 {
		write(t, w, 1, 3)
	}
	for count := w.segmentCount(); count > 1; count-- {
		first, last := w.FirstLSN(), w.segments[0].last
		for _, lsn := range []LSN{0, first, last - 1, last} {
			require.NoError(t, w.TruncateBelow(lsn))
			require.Equal(t, count, w.segmentCount(), "LSN %d of %d to %d is needed", lsn, first, last)
		}
		require.NotEmpty(t, replayed(t, w, last))
		require.NoError(t, w.TruncateBelow(last+1))
		require.Equal(t, count-1, w.segmentCount(), "nothing up to LSN %d is needed", last)
		require.Equal(t, last+1, w.FirstLSN())
	}
	require.NoError(t, w.Close())
}
