package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// readingFS watches what is opened and read, and may refuse it.
type readingFS struct {
	vfs.FS
	onOpen func(flag int) error
	onRead func(direct bool, name string, offset int64, n int) error
	// onWrite gets the flags with which the file was opened.
	onWrite func(flag int) error
}

type readingFile struct {
	vfs.File
	fs     *readingFS
	name   string
	flag   int
	direct bool
}

func (f *readingFile) WriteAt(b []byte, offset int64) (int, error) {
	if f.fs.onWrite != nil {
		if err := f.fs.onWrite(f.flag); err != nil {
			return 0, &fs.PathError{Op: "write", Path: f.name, Err: err}
		}
	}
	return f.File.WriteAt(b, offset)
}

func (r *readingFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if r.onOpen != nil {
		if err := r.onOpen(flag); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	f, err := r.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &readingFile{f, r, filepath.Base(name), flag, flag&vfs.Direct != 0}, nil
}

func (f *readingFile) ReadAt(b []byte, offset int64) (int, error) {
	if f.fs.onRead != nil {
		if err := f.fs.onRead(f.direct, f.name, offset, len(b)); err != nil {
			return 0, &fs.PathError{Op: "read", Path: f.name, Err: err}
		}
	}
	return f.File.ReadAt(b, offset)
}

// randomFile writes a file of n random bytes.
func randomFile(t *testing.T, path string, n int64) []byte {
	t.Helper()
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return b
}

// readAhead reads what an ahead gives in steps of random sizes.
func readAhead(t *testing.T, a *ahead, offset int64, rng *rand.Rand) (got []byte) {
	t.Helper()
	for {
		b := make([]byte, 1+rng.IntN(1<<rng.IntN(22)))
		n, err := a.ReadAt(b, offset)
		got = append(got, b[:n]...)
		offset += int64(n)
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			return got
		}
		require.Len(t, b, n)
	}
}

func TestAheadReadsWhatTheFileHolds(t *testing.T) {
	const block = aheadBlockBytes
	path := filepath.Join(t.TempDir(), "f")
	rng := rand.New(rand.NewPCG(1, 1))
	var pool blockPool
	for _, size := range []int64{0, 1, 4096, 4097, block - 4096, block, block + 1, 2*block + 40960} {
		contents := randomFile(t, path, size)
		for _, direct := range []bool{false, true} {
			for _, from := range []int64{0, 5000, size / 2, size + 1} {
				for _, end := range []int64{size, size / 2, size + block} {
					a, err := openAhead(vfs.OS, path, from, end, direct, &pool)
					require.NoError(t, err)
					want := contents[min(from, size):]
					got := readAhead(t, a, min(from, size), rng)
					require.NoError(t, a.close())
					require.GreaterOrEqual(t, len(got), int(min(end, size)-min(from, size)), "%d of %d to %d", size, from, end)
					require.True(t, string(want[:len(got)]) == string(got), "size %d, from %d to %d, direct %v", size, from, end, direct)
				}
			}
		}
	}
	require.LessOrEqual(t, len(pool.blocks), aheadBlocks)
}

func TestAheadGoesOnWithoutDirectIO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	contents := randomFile(t, path, 3*aheadBlockBytes)
	for _, atOpen := range []bool{true, false} {
		for cause, refused := range map[syscall.Errno]bool{syscall.EINVAL: true, syscall.EOPNOTSUPP: true, syscall.EIO: false} {
			fsys := &readingFS{FS: vfs.OS}
			if atOpen {
				fsys.onOpen = func(flag int) error {
					if flag&vfs.Direct != 0 {
						return cause
					}
					return nil
				}
			} else {
				fsys.onRead = func(direct bool, _ string, _ int64, _ int) error {
					if direct {
						return cause
					}
					return nil
				}
			}
			var pool blockPool
			a, err := openAhead(fsys, path, 0, int64(len(contents)), true, &pool)
			if atOpen && !refused {
				require.ErrorIs(t, err, cause)
				continue
			}
			require.NoError(t, err)
			if refused {
				require.True(t, string(contents) == string(readAhead(t, a, 0, rand.New(rand.NewPCG(2, 2)))))
			} else {
				_, err = a.ReadAt(make([]byte, 10), 0)
				require.ErrorIs(t, err, cause)
			}
			require.NoError(t, a.close())
		}
	}
}

// What was read before a bad place is handed out before the error is, and the error again and again.
func TestAheadFailsWhereTheDiskDoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	contents := randomFile(t, path, 3*aheadBlockBytes)
	fsys := &readingFS{FS: vfs.OS, onRead: func(_ bool, _ string, offset int64, _ int) error {
		if offset >= aheadBlockBytes {
			return syscall.EIO
		}
		return nil
	}}
	var pool blockPool
	a, err := openAhead(fsys, path, 0, int64(len(contents)), true, &pool)
	require.NoError(t, err)
	b := make([]byte, len(contents))
	n, err := a.ReadAt(b, 4096)
	require.ErrorIs(t, err, syscall.EIO)
	require.True(t, string(contents[4096:aheadBlockBytes]) == string(b[:n]))
	n, err = a.ReadAt(b, aheadBlockBytes)
	require.ErrorIs(t, err, syscall.EIO)
	require.Zero(t, n)
	require.NoError(t, a.close())
}

func TestAheadDoesNotGoBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	randomFile(t, path, 3*aheadBlockBytes)
	var pool blockPool
	a, err := openAhead(vfs.OS, path, 0, 3*aheadBlockBytes, false, &pool)
	require.NoError(t, err)
	_, err = a.ReadAt(make([]byte, 10), 2*aheadBlockBytes)
	require.NoError(t, err)
	_, err = a.ReadAt(make([]byte, 10), 0)
	require.ErrorContains(t, err, "read back")
	require.NoError(t, a.close())
}

// Whenever it is closed, the goroutine ends, all blocks are back, and no more than what is in flight is read.
func TestAheadIsClosedAtAnyTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	randomFile(t, path, 6*aheadBlockBytes)
	var pool blockPool
	for blocks := range 8 {
		var mu sync.Mutex
		reads := 0
		fsys := &readingFS{FS: vfs.OS, onRead: func(bool, string, int64, int) error {
			mu.Lock()
			defer mu.Unlock()
			reads++
			return nil
		}}
		a, err := openAhead(fsys, path, 0, 6*aheadBlockBytes, true, &pool)
		require.NoError(t, err)
		for i := range blocks {
			_, _ = a.ReadAt(make([]byte, aheadBlockBytes), int64(i)*aheadBlockBytes)
		}
		require.NoError(t, a.close())
		require.Len(t, pool.blocks, aheadBlocks)
		mu.Lock()
		require.LessOrEqual(t, reads, blocks+aheadBlocks)
		mu.Unlock()
	}
}

// Open hands out what Replay does, in one pass.
func TestOpenHandsOutEveryFrame(t *testing.T) {
	opt := smallOptions(t.TempDir())
	var want []LSN
	for range 3 {
		w := mustOpen(t, opt)
		want = append(want, write(t, w, 30, 3)...)
		require.NoError(t, w.MarkDurable())
		require.NoError(t, w.Close())
	}
	var got []LSN
	positions := map[LSN]Position{}
	opt.OnFrame = func(f Frame) error {
		require.True(t, isEntry(f), "frame at LSN %d is not what was appended", f.First)
		got = append(got, f.First)
		positions[f.First] = f.Position
		return nil
	}
	w := mustOpen(t, opt)
	require.Equal(t, want, got)
	require.NoError(t, w.Replay(context.Background(), 0, func(f Frame) error {
		require.Equal(t, positions[f.First], f.Position)
		return nil
	}))
	require.NoError(t, w.Close())

	cause := errors.New("not taken")
	opt.OnFrame = func(f Frame) error {
		if f.First >= want[100] {
			return cause
		}
		return nil
	}
	_, err := Open(context.Background(), opt)
	require.ErrorIs(t, err, cause)
}

// Frames behind a damaged place, or of a torn group behind the torn frame, are not handed out.
func TestOpenHandsOutNothingBehindDamage(t *testing.T) {
	img := newImage(t, true)
	name := img.segments()[0]
	for _, at := range []int{segmentHeaderBytes + 70, len(img.files[name]) / 2} {
		contents := append([]byte(nil), img.files[name]...)
		contents[at] ^= 1
		fsys := img.mount(t, name, contents)
		var got []LSN
		opt := Options{Dir: "wal", FS: fsys, SegmentSizeBytes: 32 << 10, MaxGroupBytes: 8 << 10, OnFrame: func(f Frame) error {
			require.True(t, isEntry(f))
			got = append(got, f.First)
			return nil
		}}
		_, err := Open(context.Background(), opt)
		var corruption *CorruptionError
		require.ErrorAs(t, err, &corruption)
		require.Equal(t, name, corruption.Segment)
		require.LessOrEqual(t, corruption.OffsetBytes, int64(at))
		require.Less(t, len(got), len(img.firsts))
		require.Equal(t, img.firsts[:len(got)], append([]LSN{}, got...))
	}
}

// A replay that goes on where another one ended reads nothing twice but the block of 4 KiB and what had been read ahead, and gives the same
// frames; the log may grow and be cut meanwhile.
func TestReplayGoesOnWhereItEnded(t *testing.T) {
	errEnough := errors.New("enough")
	var mu sync.Mutex
	var lowest map[string]int64
	fsys := &readingFS{FS: crashfs.New(), onRead: func(_ bool, name string, offset int64, _ int) error {
		mu.Lock()
		defer mu.Unlock()
		if lowest != nil {
			if at, ok := lowest[name]; !ok || offset < at {
				lowest[name] = offset
			}
		}
		return nil
	}}
	opt := smallOptions("wal")
	opt.FS = fsys
	w := mustOpen(t, opt)
	rng := rand.New(rand.NewPCG(3, 3))
	want := write(t, w, 60, 3)
	from := want[0]
	var got []LSN
	var end Position // of the last frame that fn has seen, whether it took it or not
	for len(got) < len(want) {
		mu.Lock()
		lowest = map[string]int64{}
		mu.Unlock()
		resumed, taken := end, rng.IntN(30)
		err := w.Replay(context.Background(), from, func(f Frame) error {
			end = f.Position
			if taken--; taken < 0 {
				return errEnough
			}
			require.True(t, isEntry(f))
			got, from = append(got, f.First), f.Last()+1
			return nil
		})
		if err != nil {
			require.ErrorIs(t, err, errEnough)
		}
		mu.Lock()
		if offset, ok := lowest[segmentName(resumed.Segment)]; ok {
			require.GreaterOrEqual(t, offset, resumed.OffsetBytes&^4095, "read again what was read before")
		}
		mu.Unlock()
		if len(want) < 300 {
			want = append(want, write(t, w, 2, 3)...)
		}
		require.NoError(t, w.TruncateBelow(from))
		w.mu.Lock()
		require.LessOrEqual(t, len(w.stops), maxStops)
		w.mu.Unlock()
	}
	require.Equal(t, want, got)
	require.NoError(t, w.Close())
}

// What a start allocates does not depend on the length of the log.
func TestOpenTakesBoundedMemory(t *testing.T) {
	allocated := func(segments int) uint64 {
		opt := Options{Dir: t.TempDir(), SegmentSizeBytes: 2 << 20, MaxGroupBytes: 512 << 10, SpareSegments: -1}
		w := mustOpen(t, opt)
		e := Entry{Records: 1, Parts: [2][]byte{make([]byte, 250<<10), nil}}
		for w.segmentCount() < segments {
			_, err := w.Append(e)
			require.NoError(t, err)
			require.NoError(t, w.Sync())
		}
		require.NoError(t, w.Close())
		frames := 0
		opt.OnFrame = func(Frame) error {
			frames++
			return nil
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w = mustOpen(t, opt)
		runtime.ReadMemStats(&after)
		require.NoError(t, w.Close())
		require.Greater(t, frames, 6*(segments-1))
		return after.TotalAlloc - before.TotalAlloc
	}
	few, many := allocated(3), allocated(12)
	require.Less(t, many, few+1<<20, fmt.Sprintf("3 segments %d bytes, 12 segments %d bytes", few, many))
	require.Less(t, many, uint64(2*2*aheadBlockBytes+windowBytes+4<<20)) // two groups are among it
}
