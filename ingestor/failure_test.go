package ingestor

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/processor"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

func TestFailuresHaveTheirKinds(t *testing.T) {
	damage := &wal.CorruptionError{Segment: "1.wal"}
	misplaced := fmt.Errorf("sink timescale: %w", processor.ErrMisplaced)
	for _, c := range []struct {
		err              error
		starting, served error // nil: none of ours
	}{
		{damage, ErrRefused, ErrRefused},
		{misplaced, ErrSink, ErrSink},
		{&timescale.FencedError{}, ErrSink, ErrSink},
		{&timescale.InvariantError{Err: errors.New("x")}, ErrRefused, ErrRefused},
		{errors.New("fsync failed"), ErrRefused, ErrPoisoned},
		{fmt.Errorf("open: %w", syscall.EIO), nil, ErrPoisoned},
		{manifest.ErrNoSpace, nil, ErrPoisoned},
		{wal.ErrNoSpace, nil, ErrPoisoned},
	} {
		starting := refused(context.Background(), c.err)
		require.ErrorIs(t, starting, c.err)
		for _, kind := range []error{ErrRefused, ErrSink, ErrPoisoned} {
			require.Equal(t, kind == c.starting, errors.Is(starting, kind), "%v: %v", c.err, kind) //nolint:errorlint // identity
		}
		require.ErrorIs(t, kindOf(c.err), c.served, c.err)
	}
}
