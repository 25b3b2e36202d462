package datadir_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/datadir"
)

func TestOneOwnerAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	unlock, err := datadir.Open(dir)
	require.NoError(t, err)
	_, err = datadir.Lock(dir)
	require.ErrorContains(t, err, "in use")
	require.NoError(t, unlock())
	unlock, err = datadir.Open(dir)
	require.NoError(t, err)
	require.NoError(t, unlock())
}

func TestLockNeedsTheDirectory(t *testing.T) {
	_, err := datadir.Lock(filepath.Join(t.TempDir(), "absent"))
	require.Error(t, err)
}
