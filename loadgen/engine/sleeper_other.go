//go:build !linux

package engine

import (
	"context"
	"time"
)

// sleeper waits with the precision of the runtime's timers.
type sleeper struct{}

func newSleeper() (*sleeper, error) { return &sleeper{}, nil }

func (*sleeper) sleep(ctx context.Context, d time.Duration) error { return coarseSleep(ctx, d) }

func (*sleeper) close() error { return nil }
