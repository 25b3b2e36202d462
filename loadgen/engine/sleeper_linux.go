package engine

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// fineWait is the length of the last part of a wait, which a timerfd does.
const fineWait = 3 * time.Millisecond

// sleeper waits with a precision of some 50 us. The runtime's own timers wake an idle process up to 1 ms late, since it waits in
// epoll, which counts milliseconds; a timerfd makes epoll return on time. A sleeper serves one goroutine.
type sleeper struct {
	fd    int
	timer *os.File
}

func newSleeper() (*sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("engine: timerfd: %w", err)
	}
	return &sleeper{fd: fd, timer: os.NewFile(uintptr(fd), "timerfd")}, nil
}

// sleep waits for d. It returns early, with an error, when ctx ends more than fineWait before the time.
func (s *sleeper) sleep(ctx context.Context, d time.Duration) error {
	start := time.Now()
	if d > fineWait {
		if err := coarseSleep(ctx, d-fineWait/2); err != nil {
			return err
		}
		d -= time.Since(start)
	}
	if d <= 0 {
		return nil
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(s.fd, 0, &spec, nil); err != nil {
		return fmt.Errorf("engine: timerfd: %w", err)
	}
	var expirations [8]byte
	if _, err := s.timer.Read(expirations[:]); err != nil {
		return fmt.Errorf("engine: timerfd: %w", err)
	}
	return nil
}

func (s *sleeper) close() error { return s.timer.Close() }
