package wal

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACRCOfTwoPartsIsMadeOfTheirs(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(b)
	var a appending
	for _, n := range []int{0, 1, 2, 63, 64, 4096, 4032, 145_152, 1 << 19, 1<<20 - 60} {
		for range 2 {
			head, tail := b[:1+rng.IntN(60)], b[len(b)-n:]
			want := crc32.Checksum(append(bytes.Clone(head), tail...), castagnoli)
			got := multiply(a.bytes(n), crc32.Checksum(head, castagnoli)) ^ crc32.Checksum(tail, castagnoli)
			require.Equal(t, want, got, "%d bytes after %d", n, len(head))
		}
	}
}

// Whatever the sizes of the frames, a group is the same bytes whether the payloads are summed up early or with their headers.
func TestAStampedFrameHasTheChecksumOfItsBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	g := newGroup(1 << 20)
	h := goldenHeader()
	for range 50 {
		first := LSN(1001)
		for {
			payload := make([]byte, rng.IntN(1<<(1+rng.IntN(18))))
			for i := range payload {
				payload[i] = byte(rng.Uint32())
			}
			cut := rng.IntN(len(payload) + 1)
			if g.add(kindRecords, first, 2, [2][]byte{payload[:cut], payload[cut:]}) != nil {
				break
			}
			first += 2
		}
		chain := rng.Uint32()
		b, last := g.stamp(&h, 4096, chain, 1000)
		frames := 0
		for at := 0; at < g.size; frames++ {
			var f frameHeader
			require.True(t, f.decode(b[at:]))
			frame := b[at : at+frameBytes(int(f.payloadBytes))]
			require.Equal(t, chain, f.chain)
			require.Equal(t, frameChecksum(frame), f.checksum)
			chain = f.checksum
			at += len(frame)
		}
		require.Equal(t, last, chain)
		require.Equal(t, g.frames, frames)
		g.reset()
	}
}
