package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// smallOptions make segments so small that a few groups fill one.
func smallOptions(dir string) Options {
	return Options{Dir: dir, SegmentSizeBytes: 64 << 10, MaxGroupBytes: 16 << 10, SpareSegments: 1}
}

func mustOpen(t testing.TB, opt Options) *WAL {
	t.Helper()
	w, err := Open(context.Background(), opt)
	require.NoError(t, err)
	return w
}

// entryFor is the entry whose first LSN is first: its records and payload follow from that alone, so that a replay can be
// judged by identity.
func entryFor(first LSN) Entry {
	r := rand.New(rand.NewPCG(first, 7))
	payload := make([]byte, 8+r.IntN(900))
	binary.LittleEndian.PutUint64(payload, first)
	for i := 8; i < len(payload); i++ {
		payload[i] = byte(r.Uint32())
	}
	cut := r.IntN(len(payload))
	return Entry{Records: 1 + r.Uint32N(5), Parts: [2][]byte{payload[:cut], payload[cut:]}}
}

// write appends and syncs groups of entries and returns the first LSN of each entry.
func write(t testing.TB, w *WAL, groups, entries int) []LSN {
	t.Helper()
	var firsts []LSN
	for range groups {
		for range entries {
			e := entryFor(w.NextLSN())
			first, err := w.Append(e)
			require.NoError(t, err)
			firsts = append(firsts, first)
		}
		require.NoError(t, w.Sync())
		require.Equal(t, w.NextLSN()-1, w.DurableLSN())
	}
	return firsts
}

// isEntry says whether a replayed frame is exactly the entry that was appended with its first LSN.
func isEntry(f Frame) bool {
	e := entryFor(f.First)
	return f.Records == e.Records && bytes.Equal(f.Payload, append(bytes.Clone(e.Parts[0]), e.Parts[1]...))
}

// replayed returns the first LSN of every frame, each judged by identity.
func replayed(t testing.TB, w *WAL, from LSN) []LSN {
	t.Helper()
	var firsts []LSN
	require.NoError(t, w.Replay(context.Background(), from, func(f Frame) error {
		require.True(t, isEntry(f), "frame at LSN %d is not what was appended", f.First)
		firsts = append(firsts, f.First)
		return nil
	}))
	return firsts
}

func TestWriteReopenReplay(t *testing.T) {
	opt := smallOptions(t.TempDir())
	var want []LSN
	var id [16]byte
	for run := range 4 {
		w := mustOpen(t, opt)
		if run == 0 {
			id = w.ID()
		}
		require.Equal(t, id, w.ID())
		require.Equal(t, want, replayed(t, w, 0))
		want = append(want, write(t, w, 40, 3)...)
		require.Equal(t, want, replayed(t, w, 1))
		require.Equal(t, want[30:], replayed(t, w, want[30]))
		require.Equal(t, want[30:], replayed(t, w, want[31]-1))
		require.NoError(t, w.Close())
	}
}
