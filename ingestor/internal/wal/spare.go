package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

const (
	sparePrefix = "spare-"
	spareSuffix = ".tmp"
	probeName   = "probe.tmp"

	// recycleFactor bounds the spares: as many times SpareSegments, because one flush drops many segments at once.
	recycleFactor = 4

	// fillStepBytes is written at once when zeros are filled in, and fillPauseFactor times as long as that took is waited
	// after each step, so that the log's own writes find the disk idle most of the time.
	fillStepBytes   = 256 << 10
	fillPauseFactor = 3
)

func isSpareName(name string) bool {
	_, ok := parseSpareName(name)
	return ok
}

func parseSpareName(name string) (n uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, sparePrefix)
	if !ok {
		return 0, false
	}
	if digits, ok = strings.CutSuffix(digits, spareSuffix); !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// budget bounds the bytes of all files of a log. It is safe for concurrent use.
type budget struct {
	mu    sync.Mutex
	used  int64
	limit int64 // 0: none
}

// reserve takes n bytes, or returns ErrNoSpace.
func (b *budget) reserve(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit != 0 && b.used+n > b.limit {
		return fmt.Errorf("%w: files of %d bytes, and one more of %d, exceed the limit of %d", ErrNoSpace, b.used, n, b.limit)
	}
	b.used += n
	return nil
}

// add takes n bytes, which may be negative, whatever the limit.
func (b *budget) add(n int64) {
	b.mu.Lock()
	b.used += n
	b.mu.Unlock()
}

// spares keeps files ready that are to become segments: full size, on disk, and written once before, so that a write to
// them changes no metadata. What they contain does not matter. A file is either filled with zeros by the goroutine that
// spares owns, or is a segment that was dropped.
//
// A spare that fails to be made is no accident: a segment is then made at the time of need, without the zeros.
type spares struct {
	fs        vfs.FS
	dir       string
	sizeBytes int64
	target    int          // prepared ahead of need
	direct    atomic.Int64 // vfs.Direct or 0
	budget    *budget
	logger    *slog.Logger

	mu     sync.Mutex
	ready  []string // paths
	number uint64   // of the newest file name
	full   fullDisk

	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// adopt takes over the spares that an earlier run left, and removes those that are not of use.
func (s *spares) adopt(names []string) error {
	for _, name := range names {
		n, _ := parseSpareName(name)
		s.number = max(s.number, n)
		path := filepath.Join(s.dir, name)
		size, err := s.fs.SizeBytes(path)
		if err != nil {
			return fmt.Errorf("wal: spare: %w", err)
		}
		if size == s.sizeBytes && s.wanted() && s.budget.reserve(size) == nil {
			s.ready = append(s.ready, path)
			continue
		}
		if err := s.fs.Remove(path); err != nil {
			return fmt.Errorf("wal: spare: %w", err)
		}
	}
	return nil
}

// prefill prepares the spares that are missing, at full speed, and one more for the segment that will soon be begun, so that
// early traffic does not compete with it. It fails only when the context ends.
func (s *spares) prefill(ctx context.Context) error {
	if s.target == 0 {
		return nil
	}
	if err := s.prepare(ctx, s.target+1, 0); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.logger.Warn("wal_spare_failed", "error", err)
	}
	return nil
}

// start starts the goroutine that prepares spares whenever poke is called.
func (s *spares) start(ctx context.Context) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel, s.done = cancel, make(chan struct{})
	go s.run(run)
}

// stop ends the goroutine and waits for it.
func (s *spares) stop() {
	s.cancel()
	<-s.done
}

func (s *spares) run(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if err := s.prepare(ctx, s.target, fillPauseFactor); err != nil && ctx.Err() == nil {
			s.logger.Warn("wal_spare_failed", "error", err)
		}
	}
}

// poke tells the goroutine that a spare may be missing. It never blocks.
func (s *spares) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *spares) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready)
}

// fullDisk spares the disk attempts that are bound to fail: a file is made and removed again in each, and there may be one for every
// group that has to be refused. The zero value is ready.
type fullDisk struct {
	failures int // in a row
	until    time.Time
	err      error
}

// maxFullPause bounds the time without an attempt, and with it the time until space that someone else has freed is noticed.
const maxFullPause = 128 * time.Millisecond

// failed notes an attempt that failed for want of space. There is no pause after the first; then it doubles from 1 ms on.
func (f *fullDisk) failed(now time.Time, err error) {
	f.err, f.until = err, now
	if f.failures > 0 {
		f.until = now.Add(min(time.Millisecond<<min(f.failures-1, 10), maxFullPause))
	}
	f.failures++
}

// take returns a spare, which from then on is the caller's. Where none is ready it makes one that has its space but not its
// zeros. The file's bytes stay reserved in the budget. The error is ErrNoSpace where there is no space, or was none a moment ago.
func (s *spares) take() (path string, err error) {
	s.mu.Lock()
	if n := len(s.ready); n > 0 {
		path, s.ready = s.ready[0], s.ready[1:]
		s.mu.Unlock()
		return path, nil
	}
	full := s.full
	s.mu.Unlock()
	if time.Now().Before(full.until) {
		return "", full.err
	}
	path, err = s.makeReserved()
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, ErrNoSpace) {
		s.full.failed(time.Now(), err)
	} else {
		s.full = fullDisk{}
	}
	return path, err
}

// freed says that a file of the log was removed: it may be worth trying again.
func (s *spares) freed() {
	s.mu.Lock()
	s.full = fullDisk{}
	s.mu.Unlock()
	s.poke()
}

// makeReserved makes a spare that has its space but not its zeros.
func (s *spares) makeReserved() (path string, err error) {
	return s.make(func(f vfs.File) error {
		err := f.Preallocate(s.sizeBytes)
		if errors.Is(err, errors.ErrUnsupported) {
			return s.fill(f, nil)
		}
		if err != nil {
			return err
		}
		return f.Truncate(s.sizeBytes)
	})
}

// put adds a spare whose bytes are reserved in the budget already. Its name must be durable.
func (s *spares) put(path string) {
	s.mu.Lock()
	s.ready = append(s.ready, path)
	s.mu.Unlock()
}

// wanted reports whether a dropped segment may become a spare.
func (s *spares) wanted() bool { return s.count() < s.target*recycleFactor }

// name returns a new path for a spare.
func (s *spares) name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	return filepath.Join(s.dir, fmt.Sprintf("%s%d%s", sparePrefix, s.number, spareSuffix))
}

// prepare makes zero-filled spares until there are count of them. After each step of writing it waits for pauseFactor times as long
// as the step took, unless no spare is left at all.
func (s *spares) prepare(ctx context.Context, count int, pauseFactor time.Duration) error {
	pause := func(took time.Duration) error {
		if s.count() == 0 {
			return ctx.Err()
		}
		return wait(ctx, pauseFactor*took)
	}
	for s.count() < count {
		path, err := s.make(func(f vfs.File) error {
			if err := f.Preallocate(s.sizeBytes); err != nil && !errors.Is(err, errors.ErrUnsupported) {
				return err
			}
			return s.fill(f, pause)
		})
		if err != nil {
			return err
		}
		s.put(path)
	}
	return nil
}

// make creates a spare, has it filled and makes it durable. Nothing is left of it after an error.
func (s *spares) make(fill func(vfs.File) error) (path string, err error) {
	if err := s.budget.reserve(s.sizeBytes); err != nil {
		return "", err
	}
	path = s.name()
	f, err := s.fs.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|int(s.direct.Load()), 0o644)
	if err == nil {
		if err = fill(f); err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, s.fs.Remove(path))
		}
	}
	if err == nil {
		return path, nil
	}
	s.budget.add(-s.sizeBytes)
	if vfs.IsNoSpace(err) {
		return "", fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return "", fmt.Errorf("wal: make spare: %w", err)
}

// fill writes zeros from the beginning to the full size, so that a file of full size has all of them. After each step it
// calls pause, where there is one, with the time that the step took, and stops when that fails.
func (s *spares) fill(f vfs.File, pause func(took time.Duration) error) error {
	zeros := vfs.AlignedBuffer(int(min(fillStepBytes, s.sizeBytes)))
	for offset := int64(0); offset < s.sizeBytes; {
		began := time.Now()
		n := min(int64(len(zeros)), s.sizeBytes-offset)
		if _, err := f.WriteAt(zeros[:n], offset); err != nil {
			return err
		}
		offset += n
		if pause == nil {
			continue
		}
		if err := pause(time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// wait returns after d, or with an error once the context ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
