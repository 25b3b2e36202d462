package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// The benchmarks measure the disk under the system's temporary directory; set TMPDIR to measure another one. On tmpfs, where
// fdatasync does nothing, they measure nothing and are skipped.
//
//	TMPDIR=/data go test -run XXX -bench . -benchtime 5000x ./ingestor/internal/wal
//
// BenchmarkRaw is the floor to compare with: one write and one fdatasync into a file that was written in full before, and what
// it costs to do otherwise: only reserved, growing, or packed without padding through the page cache.

func diskDir(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	var fs unix.Statfs_t
	require.NoError(b, unix.Statfs(dir, &fs))
	if fs.Type == unix.TMPFS_MAGIC {
		b.Skip("the temporary directory is on tmpfs: set TMPDIR to a directory on a disk")
	}
	return dir
}

// load is what one group holds.
type load struct{ frames, records, recordBytes int }

var loads = []load{{1, 1, 100}, {1, 1000, 100}, {4, 1000, 100}, {8, 1000, 145}}

func (l load) String() string {
	return fmt.Sprintf("frames=%d/records=%d/record_bytes=%d", l.frames, l.records, l.recordBytes)
}

// latencies reports the percentiles of what each operation took.
func latencies(b *testing.B, took []time.Duration, recordsPerOp int) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(recordsPerOp)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkAppendSync(b *testing.B) {
	for _, l := range loads {
		for _, mode := range []DirectIO{DirectAuto, DirectOff} {
			b.Run(fmt.Sprintf("%s/direct=%v", l, mode == DirectAuto), func(b *testing.B) {
				var rolls []time.Duration
				w := mustOpen(b, Options{Dir: diskDir(b), DirectIO: mode, OnGroup: func(s GroupStats) {
					if s.Roll > 0 {
						rolls = append(rolls, s.Roll)
					}
				}})
				e := Entry{Records: uint32(l.records), Parts: [2][]byte{make([]byte, 40), make([]byte, l.records*l.recordBytes)}}
				took := make([]time.Duration, 0, b.N)
				b.SetBytes(int64(l.frames * l.records * l.recordBytes))
				b.ReportAllocs()
				for b.Loop() {
					began := time.Now()
					for range l.frames {
						_, err := w.Append(e)
						require.NoError(b, err)
					}
					require.NoError(b, w.Sync())
					took = append(took, time.Since(began))
					if w.segmentCount() > 3 {
						require.NoError(b, w.TruncateBelow(w.DurableLSN()))
					}
				}
				latencies(b, took, l.frames*l.records)
				if slices.Sort(rolls); len(rolls) > 0 {
					b.ReportMetric(float64(rolls[len(rolls)/2].Nanoseconds()), "roll-p50-ns")
				}
				require.NoError(b, w.Close())
			})
		}
	}
}

// BenchmarkAppendBegin is BenchmarkAppendSync with the next group filling while one is written and synced. write-ns is what the goroutine of the
// log takes to stamp and write a group.
func BenchmarkAppendBegin(b *testing.B) {
	for _, l := range loads {
		b.Run(l.String(), func(b *testing.B) {
			var write time.Duration
			w := mustOpen(b, Options{Dir: diskDir(b), OnGroup: func(s GroupStats) { write += s.Write }})
			e := Entry{Records: uint32(l.records), Parts: [2][]byte{make([]byte, 40), make([]byte, l.records*l.recordBytes)}}
			b.SetBytes(int64(l.frames * l.records * l.recordBytes))
			b.ReportAllocs()
			underWay := false
			for b.Loop() {
				for range l.frames {
					_, err := w.Append(e)
					require.NoError(b, err)
				}
				if underWay {
					require.NoError(b, <-w.Done())
				}
				require.NoError(b, w.Begin())
				underWay = true
				if w.segmentCount() > 3 {
					require.NoError(b, w.TruncateBelow(w.DurableLSN()))
				}
			}
			require.NoError(b, <-w.Done())
			b.ReportMetric(float64(write.Nanoseconds())/float64(b.N), "write-ns")
			require.NoError(b, w.Close())
		})
	}
}

func BenchmarkRaw(b *testing.B) {
	written := func(s *spares, f vfs.File) error { return s.fill(f, nil) }
	reserved := func(s *spares, f vfs.File) error {
		return errors.Join(f.Preallocate(s.sizeBytes), f.Truncate(s.sizeBytes))
	}
	for _, l := range loads {
		b.Run(l.String()+"/file=written", func(b *testing.B) { benchmarkRaw(b, l, vfs.Direct, alignBlock[int], written) })
		b.Run(l.String()+"/file=reserved", func(b *testing.B) { benchmarkRaw(b, l, vfs.Direct, alignBlock[int], reserved) })
		b.Run(l.String()+"/file=growing", func(b *testing.B) {
			benchmarkRaw(b, l, vfs.Direct, alignBlock[int], func(*spares, vfs.File) error { return nil })
		})
		b.Run(l.String()+"/file=written/packed", func(b *testing.B) {
			benchmarkRaw(b, l, 0, func(n int) int { return n }, written)
		})
	}
}

// benchmarkRaw writes groups one after the other into files of a segment's size that fill has prepared. The time to prepare
// them is not counted.
func benchmarkRaw(b *testing.B, l load, direct int, align func(int) int, fill func(*spares, vfs.File) error) {
	s := &spares{fs: vfs.OS, dir: diskDir(b), sizeBytes: DefaultSegmentSizeBytes, budget: &budget{}}
	s.direct.Store(int64(direct))
	group := vfs.AlignedBuffer(alignBlock(l.frames * frameBytes(l.records*l.recordBytes+40)))
	group = group[:align(l.frames*frameBytes(l.records*l.recordBytes+40))]
	var f vfs.File
	took, offset := make([]time.Duration, 0, b.N), int64(DefaultSegmentSizeBytes)
	b.SetBytes(int64(l.frames * l.records * l.recordBytes))
	for b.Loop() {
		if offset+int64(len(group)) > DefaultSegmentSizeBytes {
			b.StopTimer()
			if f != nil {
				require.NoError(b, f.Close())
			}
			path, err := s.make(func(f vfs.File) error { return fill(s, f) })
			require.NoError(b, err)
			f, err = vfs.OS.OpenFile(path, os.O_RDWR|direct, 0)
			require.NoError(b, err)
			offset = 0
			b.StartTimer()
		}
		began := time.Now()
		_, err := f.WriteAt(group, offset)
		require.NoError(b, err)
		require.NoError(b, f.Datasync())
		offset += int64(len(group))
		took = append(took, time.Since(began))
	}
	latencies(b, took, l.frames*l.records)
	require.NoError(b, f.Close())
}

// BenchmarkReplay reads a log of 256 MiB that the page cache holds.
func BenchmarkReplay(b *testing.B) {
	for _, l := range []load{{8, 1, 100}, {1, 1000, 145}} {
		b.Run(l.String(), func(b *testing.B) {
			opt := Options{Dir: filepath.Join(diskDir(b), "wal"), SpareSegments: -1}
			w := mustOpen(b, opt)
			e := Entry{Records: uint32(l.records), Parts: [2][]byte{make([]byte, l.records*l.recordBytes), nil}}
			for w.SizeBytes() < 256<<20 {
				var err error
				for err == nil {
					_, err = w.Append(e)
				}
				require.ErrorIs(b, err, ErrGroupFull)
				require.NoError(b, w.Sync())
			}
			b.SetBytes(w.SizeBytes())
			b.ReportAllocs()
			records := 0
			for b.Loop() {
				require.NoError(b, w.Replay(context.Background(), 0, func(f Frame) error {
					records += int(f.Records)
					return nil
				}))
			}
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
			require.NoError(b, w.Close())
		})
	}
}
