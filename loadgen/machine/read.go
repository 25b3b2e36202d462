package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// readBytes is what ProbeRead reads at a time.
const readBytes = 1 << 20

// Reads is what ProbeRead measured.
type Reads struct {
	Bytes   int64
	Elapsed time.Duration
	// Latency of reading 1 MiB in nanoseconds.
	Latency *hdrhistogram.Histogram
}

// ProbeRead reads files from end to end, one after the other, past the page cache where the file system has O_DIRECT, so that whoever
// reads them next finds nothing made ready.
func ProbeRead(ctx context.Context, paths []string) (Reads, error) {
	found := Reads{Latency: hdrhistogram.New(1, int64(time.Minute), 3)}
	// Memory from mmap begins on a page, as O_DIRECT wants it.
	buffer, err := unix.Mmap(-1, 0, readBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return found, fmt.Errorf("read probe: %w", err)
	}
	begin := time.Now()
	for _, path := range paths {
		if err = found.read(ctx, path, buffer); err != nil {
			break
		}
	}
	found.Elapsed = time.Since(begin)
	return found, errors.Join(err, unix.Munmap(buffer))
}

func (r *Reads) read(ctx context.Context, path string, buffer []byte) error {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		file, err = os.Open(path)
	}
	if err != nil {
		return fmt.Errorf("read probe: %w", err)
	}
	for err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		start := time.Now()
		var n int
		if n, err = file.Read(buffer); n > 0 {
			r.Bytes += int64(n)
			err = r.Latency.RecordValue(int64(time.Since(start)))
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, file.Close())
}
