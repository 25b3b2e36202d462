package wal

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// goldenHeader is a segment header with a different value in every field.
func goldenHeader() segmentHeader {
	return segmentHeader{
		wal: [16]byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf},
		id:  7, epoch: 0x0123456789abcdef, first: 1001, prev: tail{segment: 6, last: 1000, checksum: 0xdeadbeef},
		sizeBytes: 64 << 20, maxGroupBytes: 4 << 20,
	}
}

// goldenGroup is a group of two frames and padding in the segment of goldenHeader.
func goldenGroup(t *testing.T) []byte {
	g := newGroup(4 << 20)
	for i := range g.buf[:4096] {
		g.buf[i] = 0xff // nothing of what the buffer held before may be seen
	}
	require.NoError(t, g.add(kindRecords, 1001, 3, [2][]byte{[]byte("envelope|"), []byte("batch")}))
	require.NoError(t, g.add(kindRecords, 1004, 1, [2][]byte{bytes.Repeat([]byte("x"), 64), nil}))
	h := goldenHeader()
	b, _ := g.stamp(&h, 4096, 0xcafef00d, 1000)
	return b
}

// dump prints bytes as hexdump -C does; repeated lines are left out.
func dump(b []byte) string {
	var out []string
	previous, skipping := "", false
	for _, line := range strings.Split(strings.TrimSuffix(hex.Dump(b), "\n"), "\n") {
		if same := line[10:] == previous; same {
			if !skipping {
				out = append(out, "*")
			}
			skipping = true
			continue
		}
		previous, skipping = line[10:], false
		out = append(out, line)
	}
	return strings.Join(out, "\n") + "\n"
}

func TestGoldenFormats(t *testing.T) {
	header := bytes.Repeat([]byte{0xff}, segmentHeaderBytes)
	h := goldenHeader()
	h.encode(header)
	for name, b := range map[string][]byte{"segment_header": header, "group": goldenGroup(t)} {
		t.Run(name, func(t *testing.T) {
			require.Len(t, b, 4096)
			golden := filepath.Join("testdata", name+".hex")
			if *rewrite {
				require.NoError(t, os.WriteFile(golden, []byte(dump(b)), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), dump(b))
		})
	}
}

func TestSegmentHeaderRoundTrip(t *testing.T) {
	b := make([]byte, segmentHeaderBytes)
	want := goldenHeader()
	want.encode(b)
	var got segmentHeader
	require.NoError(t, got.decode(b))
	require.Equal(t, want, got)
	for at := range b {
		b[at] ^= 0x10
		require.Error(t, got.decode(b), "byte %d", at)
		b[at] ^= 0x10
	}
	require.Error(t, got.decode(b[:4095]))
	for _, change := range []func(*segmentHeader){
		func(h *segmentHeader) { h.first = h.prev.last },
		func(h *segmentHeader) { h.maxGroupBytes = 0 },
		func(h *segmentHeader) { h.maxGroupBytes = maxGroupBytesLimit + 1 },
		func(h *segmentHeader) { h.sizeBytes = h.maxGroupBytes },
	} {
		h := goldenHeader()
		change(&h)
		h.encode(b)
		require.ErrorContains(t, got.decode(b), "impossible")
	}
}

func TestSegmentNames(t *testing.T) {
	require.Equal(t, "0000000000000012.wal", segmentName(12))
	id, ok := parseSegmentName(segmentName(12))
	require.True(t, ok)
	require.EqualValues(t, 12, id)
	for _, name := range []string{
		"12.wal", "0000000000000000.wal", "000000000000001x.wal", "0000000000000012.wal.damaged", "spare-1.tmp", "",
	} {
		_, ok := parseSegmentName(name)
		require.False(t, ok, name)
	}
	require.True(t, isSpareName("spare-18.tmp"))
	require.False(t, isSpareName("spare-.tmp"))
	require.False(t, isSpareName("spare-1.wal"))
}

// segmentOf is a segment file whose frames are body.
func segmentOf(body []byte) (segmentHeader, *bytes.Reader) {
	h := goldenHeader()
	h.sizeBytes, h.maxGroupBytes = 1<<20, 64<<10
	b := make([]byte, segmentHeaderBytes, segmentHeaderBytes+len(body))
	h.encode(b)
	return h, bytes.NewReader(append(b, body...))
}

// FuzzCursor feeds arbitrary bytes to the frame decoder. What it accepts must be exactly what the encoder makes of it.
func FuzzCursor(f *testing.F) {
	h, _ := segmentOf(nil)
	g := newGroup(64 << 10)
	for first := LSN(1001); first < 1004; first++ {
		if err := g.add(kindRecords, first, 1, entryFor(first).Parts); err != nil {
			f.Fatal(err)
		}
	}
	group, _ := g.stamp(&h, segmentHeaderBytes, h.checksum, 1000)
	f.Add(bytes.Clone(group))
	f.Add(group[:200])
	g.reset()
	if err := g.add(kindSeal, 1001, 0, [2][]byte{}); err != nil {
		f.Fatal(err)
	}
	seal, _ := g.stamp(&h, segmentHeaderBytes, h.checksum, 1000)
	f.Add(seal)
	f.Fuzz(func(t *testing.T, body []byte) {
		h, file := segmentOf(body)
		var c cursor
		c.reset(file, h)
		for {
			at := c.offset
			chain := c.chain
			frame, payload, err := c.next()
			if err != nil {
				require.IsType(t, &badFrame{}, err)
				require.Equal(t, at, c.offset)
				break
			}
			size := frameBytes(len(payload))
			again := make([]byte, size)
			copy(again[frameHeaderBytes:], payload)
			want := body[at-segmentHeaderBytes:][:size]
			copy(again[frameHeaderBytes+len(payload):], want[frameHeaderBytes+len(payload):])
			require.Equal(t, chain, frame.chain)
			frame.seal(again)
			require.Equal(t, want, again)
		}
		var w window
		w.reset(file, file.Size())
		require.NoError(t, w.search(h.id, nil, segmentHeaderBytes, file.Size(), file.Size(), func(at found) error {
			require.Equal(t, h.id, at.header.segment)
			require.Less(t, at.offset, file.Size())
			return nil
		}))
	})
}

// TestCursorHoldsFramesToTheirPlace: a frame with the right checksum is refused all the same where it does not belong.
func TestCursorHoldsFramesToTheirPlace(t *testing.T) {
	seal := func(h *frameHeader) { h.kind, h.records, h.payloadBytes = kindSeal, 0, 0 }
	for reason, change := range map[string]func(first, second *frameHeader){
		"":                      func(_, _ *frameHeader) {},
		"no frame header":       func(_, second *frameHeader) { second.kind = 9 },
		"earlier use":           func(_, second *frameHeader) { second.epoch++ },
		"earlier use of":        func(_, second *frameHeader) { second.segment-- },
		"after the seal":        func(first, second *frameHeader) { seal(first); second.first = 1001 },
		"chain to the frame":    func(_, second *frameHeader) { second.chain++ },
		"first LSN is 1003":     func(_, second *frameHeader) { second.first++ },
		"group offset is 8192":  func(_, second *frameHeader) { second.groupOffset += 4096 },
		"durable LSN":           func(_, second *frameHeader) { second.durable = second.first },
		"longer than its group": func(_, second *frameHeader) { second.payloadBytes = 65 << 10 },
		"beyond the end":        func(_, second *frameHeader) { second.payloadBytes = 32 << 10 },
	} {
		t.Run(reason, func(t *testing.T) {
			h, _ := segmentOf(nil)
			first := frameHeader{
				kind: kindRecords, records: 1, payloadBytes: 10, segment: h.id, epoch: h.epoch, first: 1001, durable: 1000,
				groupOffset: 4096, chain: h.checksum,
			}
			second := first
			second.first, second.payloadBytes = 1002, 100
			change(&first, &second)
			body := make([]byte, 128<<10)
			chain := first.seal(body[:frameBytes(int(first.payloadBytes))])
			at := frameBytes(int(first.payloadBytes))
			if second.chain == h.checksum {
				second.chain = chain
			}
			second.seal(body[at : at+frameBytes(int(second.payloadBytes))])
			if reason == "beyond the end" {
				body = body[:8192]
			}
			_, file := segmentOf(body)
			var c cursor
			c.reset(file, h)
			_, _, err := c.next()
			require.NoError(t, err)
			_, _, err = c.next()
			if reason == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, reason)
			require.IsType(t, &badFrame{}, err)
		})
	}
}
