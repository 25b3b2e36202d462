package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/results"
)

func TestInterruptHasACodeOfItsOwn(t *testing.T) {
	require.Equal(t, results.ExitInterrupted, exitCode(fmt.Errorf("read the files: %w", context.Canceled)))
}
