package manifest_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// A manifest that exists opens on a full disk. It is taken over once there is space, whatever is called first; until then nothing changes.
func TestAFullDiskDoesNotKeepAManifestFromOpening(t *testing.T) {
	for _, torn := range []string{"", `{"crc32c":"0000`} {
		fsys := crashfs.New()
		m := open(t, fsys)
		require.NoError(t, m.Commit(manifest.Edit{Flushed: map[string]uint64{"parquet": 1}, AddFiles: []manifest.File{fileOf("x", 1, 1)}}))
		want := m.State()
		require.NoError(t, m.Close())
		file, err := fsys.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		size, err := file.SizeBytes()
		require.NoError(t, err)
		_, err = file.WriteAt([]byte(torn), size)
		require.NoError(t, err)
		before, err := vfs.ReadFile(fsys, path)
		require.NoError(t, err)

		fsys.SetCapacity(1)
		full := open(t, fsys)
		want.OwnerEpoch++
		require.Equal(t, want, full.State())
		edit := manifest.Edit{Flushed: map[string]uint64{"parquet": 2}}
		require.ErrorIs(t, full.Commit(edit), manifest.ErrNoSpace)
		_, err = full.WriteSnapshot(1, []byte("x"))
		require.ErrorIs(t, err, manifest.ErrNoSpace)
		require.Equal(t, want, full.State())
		require.NoError(t, full.Err())
		require.NoError(t, full.Close())
		after, err := vfs.ReadFile(fsys, path)
		require.NoError(t, err)
		require.Equal(t, before, after)

		full = open(t, fsys)
		fsys.SetCapacity(0)
		snapshot, err := full.WriteSnapshot(1, []byte("x"))
		require.NoError(t, err)
		edit.Dedupe = &snapshot
		require.NoError(t, full.Commit(edit))
		require.Equal(t, uint64(2), full.Flushed("parquet"))
		require.NoError(t, full.Close())
		again := open(t, fsys)
		require.Equal(t, uint64(2), again.Flushed("parquet"))
		require.Len(t, again.State().Files, 1)
		require.Equal(t, want.OwnerEpoch+1, again.State().OwnerEpoch)
		require.NoError(t, again.Close())
	}
	fsys := crashfs.New()
	fsys.SetCapacity(1)
	_, err := manifest.Open(fsys, dir, manifest.Options{Logger: quiet})
	require.ErrorIs(t, err, manifest.ErrNoSpace, "there is nothing to read")
}
