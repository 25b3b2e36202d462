package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/results"
)

// TestLoadThatIsOverBeforeItsFirstBatch: it is refused before anything is written or dialled.
func TestLoadThatIsOverBeforeItsFirstBatch(t *testing.T) {
	ledger := filepath.Join(t.TempDir(), "ledger")
	root := newRoot()
	root.SetArgs([]string{"load", "--rate", "100", "--batch", "1000", "--duration", "5s", "--ledger", ledger})
	err := root.ExecuteContext(t.Context())
	require.ErrorContains(t, err, "a batch of 1000 records takes longer than the 5s")
	require.Equal(t, results.ExitBadInput, exitCode(err))
	require.NoFileExists(t, ledger)
}
