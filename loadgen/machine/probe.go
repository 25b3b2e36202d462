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

const (
	probeBlockBytes = 4096
	probeFileBytes  = 4 << 20
	probeWritesMax  = 2000
)

// ProbeFdatasync measures how long a 4 KiB write and its fdatasync take in dir, one after the other for the given time
// (at most 2,000 writes, at least one). The file is filled with zeros and synced before, so that no block has to be
// allocated. Values are nanoseconds.
func ProbeFdatasync(ctx context.Context, dir string, duration time.Duration) (h *hdrhistogram.Histogram, err error) {
	path := filepath.Join(dir, ".fdatasync-probe")
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("fdatasync probe: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
	if _, err := file.Write(make([]byte, probeFileBytes)); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	block := make([]byte, probeBlockBytes)
	h = hdrhistogram.New(1, int64(time.Minute), 3)
	end := time.Now().Add(duration)
	for i := range probeWritesMax {
		block[0] = byte(i)
		start := time.Now()
		if _, err := file.WriteAt(block, int64(i)*probeBlockBytes%probeFileBytes); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return nil, fmt.Errorf("fdatasync probe: %w", err)
		}
		if err := h.RecordValue(int64(time.Since(start))); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Now().After(end) {
			break
		}
	}
	return h, nil
}
