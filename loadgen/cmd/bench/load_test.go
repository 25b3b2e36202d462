package main

import (
	"path/filepath"
	"slices"
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

// TestLoadFlagsWithoutEffect: none is ignored without a word.
func TestLoadFlagsWithoutEffect(t *testing.T) {
	replay := slices.Clip([]string{"--replay", "host.csv", "--timestamp-column", "ts"})
	for _, c := range []struct {
		args  []string
		wrong string
	}{
		{append(replay, "--duration", "5s"), "--duration has no meaning with --replay"},
		{append(replay, "--records", "10"), "--records has no meaning with --replay"},
		{append(replay, "--warm-up", "1s"), "--warm-up has no meaning with --replay"},
		{append(replay, "--rate", "100", "--time-scale", "2"), "[rate time-scale]"},
		{[]string{"--time-scale", "2"}, "--time-scale has a meaning only with --replay"},
	} {
		root := newRoot()
		root.SetArgs(append([]string{"load"}, c.args...))
		err := root.ExecuteContext(t.Context())
		require.ErrorContains(t, err, c.wrong)
		require.Equal(t, results.ExitBadInput, exitCode(err))
	}
}
