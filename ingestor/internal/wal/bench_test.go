package wal

import (
	"context"
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
// BenchmarkRaw is the floor to compare with: one aligned write and one fdatasync into a file that was written before.

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
				w := mustOpen(b, Options{Dir: diskDir(b), DirectIO: mode})
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
				require.NoError(b, w.Close())
			})
		}
	}
}

func BenchmarkRaw(b *testing.B) {
	for _, l := range loads {
		b.Run(l.String(), func(b *testing.B) {
			dir := diskDir(b)
			s := &spares{fs: vfs.OS, dir: dir, sizeBytes: DefaultSegmentSizeBytes, budget: &budget{}, direct: vfs.Direct, target: 1}
			require.NoError(b, s.prepare(context.Background(), 1, 0))
			f, err := vfs.OS.OpenFile(s.ready[0], os.O_RDWR|vfs.Direct, 0)
			require.NoError(b, err)
			group := vfs.AlignedBuffer(alignBlock(l.frames * frameBytes(l.records*l.recordBytes+40)))
			took, offset := make([]time.Duration, 0, b.N), int64(0)
			b.SetBytes(int64(l.frames * l.records * l.recordBytes))
			for b.Loop() {
				began := time.Now()
				if offset+int64(len(group)) > DefaultSegmentSizeBytes {
					offset = 0
				}
				_, err := f.WriteAt(group, offset)
				require.NoError(b, err)
				require.NoError(b, f.Datasync())
				offset += int64(len(group))
				took = append(took, time.Since(began))
			}
			latencies(b, took, l.frames*l.records)
			require.NoError(b, f.Close())
		})
	}
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
