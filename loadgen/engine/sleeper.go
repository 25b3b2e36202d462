package engine

import (
	"context"
	"time"
)

// coarseSleep waits with the precision of the runtime's timers, or until ctx ends.
func coarseSleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
