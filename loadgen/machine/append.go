package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// blockBytes is what O_DIRECT wants lengths, offsets and addresses to be multiples of.
const blockBytes = 4096

// appendFileBytes is the size of the file that ProbeAppend goes through, at least; it begins again at its end.
const appendFileBytes = 256 << 20

// ErrNoDirectIO says that the file system knows no O_DIRECT.
var ErrNoDirectIO = errors.New("the file system has no O_DIRECT")

// Appends is what ProbeAppend measured.
type Appends struct {
	// WriteBytes is what each write and its fdatasync made durable.
	WriteBytes int
	// Elapsed is the time that all of them took.
	Elapsed time.Duration
	// Latency of a write and its fdatasync in nanoseconds.
	Latency *hdrhistogram.Histogram
}

// ProbeAppend measures what a log with one writer could do at most: it appends size bytes, rounded up to whole blocks of 4 KiB, to a
// file in dir and makes them durable with fdatasync, again and again for the given time. The file was filled with zeros and synced
// before, so that no block has to be allocated. direct uses O_DIRECT; the error is ErrNoDirectIO where there is none.
func ProbeAppend(ctx context.Context, dir string, size int, direct bool, duration time.Duration) (found Appends, err error) {
	found.WriteBytes = max(1, (size+blockBytes-1)/blockBytes) * blockBytes
	path := filepath.Join(dir, ".append-probe")
	zeroed, fileBytes, err := zeroFile(path, found.WriteBytes)
	if err != nil {
		return found, fmt.Errorf("append probe: %w", err)
	}
	defer func() { err = errors.Join(err, zeroed.Close(), os.Remove(path)) }()
	file := zeroed
	if direct {
		directFile, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0)
		if errors.Is(err, unix.EINVAL) {
			return found, ErrNoDirectIO
		} else if err != nil {
			return found, fmt.Errorf("append probe: %w", err)
		}
		defer func() { err = errors.Join(err, directFile.Close()) }()
		file = directFile
	}
	// Memory from mmap begins on a page.
	batch, err := unix.Mmap(-1, 0, found.WriteBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return found, fmt.Errorf("append probe: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(batch)) }()
	for i := range batch {
		batch[i] = byte(i)
	}
	found.Latency = hdrhistogram.New(1, int64(time.Minute), 3)
	begin := time.Now()
	for offset := int64(0); found.Elapsed < duration; offset = (offset + int64(len(batch))) % fileBytes {
		if ctx.Err() != nil {
			return found, ctx.Err()
		}
		start := time.Now()
		if _, err := file.WriteAt(batch, offset); err != nil {
			return found, fmt.Errorf("append probe: %w", err)
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return found, fmt.Errorf("append probe: %w", err)
		}
		if err := found.Latency.RecordValue(int64(time.Since(start))); err != nil {
			return found, err
		}
		found.Elapsed = time.Since(begin)
	}
	return found, nil
}

// zeroFile makes a file of at least appendFileBytes that holds whole writes of the given size, and syncs it.
func zeroFile(path string, writeBytes int) (file *os.File, fileBytes int64, err error) {
	if file, err = os.Create(path); err != nil {
		return nil, 0, err
	}
	zeros := make([]byte, writeBytes*max(1, 1<<20/writeBytes))
	for err == nil && fileBytes < appendFileBytes {
		_, err = file.Write(zeros)
		fileBytes += int64(len(zeros))
	}
	if err = errors.Join(err, file.Sync()); err != nil {
		return nil, 0, errors.Join(err, file.Close(), os.Remove(path))
	}
	return file, fileBytes, nil
}
