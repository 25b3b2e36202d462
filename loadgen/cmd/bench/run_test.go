package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/results"
)

// TestRunKeepsAnOlderResult: it is refused before anything runs; the server's binary here is none.
func TestRunKeepsAnOlderResult(t *testing.T) {
	dir := t.TempDir()
	older := filepath.Join(dir, results.FileName)
	require.NoError(t, os.WriteFile(older, []byte("{}"), 0o644))
	root := newRoot()
	root.SetArgs([]string{"run", "smoke", "--server", older, "--out", dir})
	err := root.ExecuteContext(t.Context())
	require.ErrorContains(t, err, "name another folder with --out")
	require.Equal(t, results.ExitBadInput, exitCode(err))
	content, err := os.ReadFile(older)
	require.NoError(t, err)
	require.Equal(t, "{}", string(content))
	require.NoDirExists(t, filepath.Join(dir, "work"))
}
