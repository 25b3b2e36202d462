package wal

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireRefused opens a log that must be refused at an offset of a segment.
func requireRefused(t *testing.T, opt Options, segment string, offset int64) {
	t.Helper()
	w, err := Open(context.Background(), opt)
	if err == nil {
		err = w.Close()
		require.Fail(t, "the log is taken", "damage at byte %d of %s, close: %v", offset, segment, err)
	}
	var corruption *CorruptionError
	require.ErrorAs(t, err, &corruption)
	require.Equal(t, segment, corruption.Segment)
	require.Equal(t, offset, corruption.OffsetBytes, corruption.Reason)
}

// A segment is born with its full size, so that a shorter newest one has lost something, whatever is left of it: a crash does not shorten
// files. Read as far as it goes, it would look like one whose last group was torn.
func TestANewestFileThatWasCutShortIsRefused(t *testing.T) {
	opt := smallOptions(t.TempDir())
	w := mustOpen(t, opt)
	write(t, w, 4, 3)
	path, name := w.newest().path, w.newest().name()
	require.NoError(t, w.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, length := range []int{4096, 4097, 8192, 9000, 12288, 16384, 20480, len(whole) - 4096, len(whole) - 1} {
		require.NoError(t, os.WriteFile(path, whole[:length], 0o600))
		requireRefused(t, opt, name, int64(length))
	}
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	require.NoError(t, mustOpen(t, opt).Close())
}

// The last frame of a segment has no frame after it whose chain names it. The next segment's header does.
func TestALastFrameThatWasForgedIsRefused(t *testing.T) {
	opt := smallOptions(t.TempDir())
	w := mustOpen(t, opt)
	for w.segmentCount() < 2 {
		write(t, w, 1, 3)
	}
	older := w.segments[0]
	require.NoError(t, w.Close())

	var offset int64
	var last frameHeader
	s := scanner{fs: w.opt.FS, dir: opt.Dir, visit: func(h frameHeader, _ []byte, at int64) error {
		if h.segment == older.header.id && h.kind == kindRecords {
			last, offset = h, at
		}
		return nil
	}}
	_, err := s.scan(context.Background(), []uint64{older.header.id, older.header.id + 1})
	require.NoError(t, err)
	require.Equal(t, older.last, last.last())

	contents, err := os.ReadFile(older.path)
	require.NoError(t, err)
	frame := contents[offset:][:frameBytes(int(last.payloadBytes))]
	frame[frameHeaderBytes]++
	last.seal(frame) // the checksum is that of the forged frame
	require.NoError(t, os.WriteFile(older.path, contents, 0o600))
	_, err = Open(context.Background(), opt)
	var corruption *CorruptionError
	require.ErrorAs(t, err, &corruption)
	require.Equal(t, older.name(), corruption.Segment)
}

// A header of this use of the file that lies where the group in flight cannot reach is no part of it, even if it says that it is: then its
// group offset is damaged, and what lies before it was synced.
func TestAFrameBeyondTheGroupInFlightIsNoTornTail(t *testing.T) {
	opt := smallOptions(t.TempDir())
	for name, beyond := range map[string]bool{"within reach": false, "beyond": true} {
		t.Run(name, func(t *testing.T) {
			opt.Dir = t.TempDir()
			w := mustOpen(t, opt)
			write(t, w, 10, 1)
			seg := *w.newest()
			require.EqualValues(t, 1, seg.header.id)
			path := filepath.Join(opt.Dir, seg.name())
			require.NoError(t, w.Close())
			contents, err := os.ReadFile(path)
			require.NoError(t, err)

			// Of ten groups of a block each, the second is damaged, and only one header of the others is left, which claims to belong to it.
			const second = segmentHeaderBytes + 4096
			left := int64(second + 4096)
			if beyond {
				left = second + int64(opt.MaxGroupBytes)
			}
			require.Less(t, left, seg.endBytes)
			header := append([]byte(nil), contents[left:left+frameHeaderBytes]...)
			binary.LittleEndian.PutUint64(header[48:], second)
			clear(contents[second:])
			copy(contents[left:], header)
			require.NoError(t, os.WriteFile(path, contents, 0o600))
			if beyond {
				requireRefused(t, opt, seg.name(), second)
				return
			}
			w = mustOpen(t, opt)
			require.Len(t, replayed(t, w, 0), 1)
			require.NoError(t, w.Close())
		})
	}
}

// What is damaged after the start was not seen by it: a replay must say so.
func TestReplayRefusesWhatWasDamagedSinceTheStart(t *testing.T) {
	opt := smallOptions(t.TempDir())
	w := mustOpen(t, opt)
	want := write(t, w, 5, 2)
	path := w.newest().path
	contents, err := os.ReadFile(path)
	require.NoError(t, err)
	third := segmentHeaderBytes + 2*4096
	contents[third+frameHeaderBytes]++
	require.NoError(t, os.WriteFile(path, contents, 0o600))

	var got []LSN
	err = w.Replay(context.Background(), 0, func(f Frame) error {
		got = append(got, f.First)
		return nil
	})
	var corruption *CorruptionError
	require.ErrorAs(t, err, &corruption)
	require.EqualValues(t, third, corruption.OffsetBytes)
	require.Equal(t, want[:len(got)], got)
	require.Len(t, got, 4, "what lies before the damage was handed out")
	require.NoError(t, w.Close())
}
