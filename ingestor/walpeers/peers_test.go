package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatIsAcknowledgedCanBeReadBack lets callers append to each peer, and then finds every payload that was acknowledged in the
// closed log, whole, once, in each caller's order, and nothing else.
func TestWhatIsAcknowledgedCanBeReadBack(t *testing.T) {
	const appends = 20
	for _, p := range peers {
		for _, w := range []workload{
			{callers: 8, records: 1, segmentBytes: 16 << 20}, {callers: 8, records: 1000, segmentBytes: 16 << 20},
		} {
			if p.single {
				w.callers = 1
			}
			t.Run(fmt.Sprintf("%s/%v", p.name, w), func(t *testing.T) {
				dir := t.TempDir()
				acknowledged := appendAll(t, &p, dir, w, appends)
				next := make([]uint32, w.callers)
				require.NoError(t, p.read(dir, w, func(payload []byte) {
					id, sum, ok := identify(payload)
					require.True(t, ok)
					require.Equal(t, acknowledged[id], sum, "payload %v", id)
					require.Equal(t, next[id.caller], id.number, "caller %d", id.caller)
					next[id.caller]++
				}))
				for caller, n := range next {
					require.EqualValues(t, appends, n, "caller %d", caller)
				}
			})
		}
	}
}

// appendAll returns the checksums of all payloads.
func appendAll(t *testing.T, p *peer, dir string, w workload, appends int) map[identity]uint64 {
	l, err := p.open(dir, w)
	require.NoError(t, err)
	before, err := l.syncs()
	require.NoError(t, err)
	sums := make([]map[identity]uint64, w.callers)
	errs := make([]error, w.callers)
	var running sync.WaitGroup
	for i := range w.callers {
		running.Go(func() {
			payload := make([]byte, w.payloadBytes())
			fill(payload, uint32(i))
			sums[i] = map[identity]uint64{}
			for n := range appends {
				identity{uint32(i), uint32(n)}.stamp(payload)
				id, sum, _ := identify(payload)
				if errs[i] = l.append(payload); errs[i] != nil {
					return
				}
				sums[i][id] = sum
			}
		})
	}
	running.Wait()
	after, err := l.syncs()
	require.NoError(t, err)
	require.GreaterOrEqual(t, after-before, uint64(appends), "a caller's appends are not synced together")
	require.NoError(t, l.close())
	all := map[identity]uint64{}
	for i := range w.callers {
		require.NoError(t, errs[i])
		for id, sum := range sums[i] {
			all[id] = sum
		}
	}
	require.Len(t, all, w.callers*appends)
	return all
}

// TestEveryPeerIsMeasuredAndReported runs the command's way through one workload.
func TestEveryPeerIsMeasuredAndReported(t *testing.T) {
	w := workload{callers: 2, records: 3, segmentBytes: 16 << 20}
	samples := make([][]sample, len(peers))
	for i := range peers {
		s, err := measure(&peers[i], t.TempDir(), w, time.Millisecond)
		require.NoError(t, err)
		require.Positive(t, s.recordsPerSecond)
		require.Positive(t, s.syncs)
		samples[i] = []sample{s}
	}
	var out strings.Builder
	report(&out, w, samples)
	for _, p := range peers {
		require.Contains(t, out.String(), "\n"+p.name+" ")
	}
}

func TestMedian(t *testing.T) {
	s := summary([]sample{{recordsPerSecond: 3, syncs: 1, p50: 9}, {recordsPerSecond: 1, syncs: 2, p50: 8}, {recordsPerSecond: 2, syncs: 9, p50: 7}})
	require.Equal(t, sample{recordsPerSecond: 2, syncs: 2, p50: 8}, s)
}
