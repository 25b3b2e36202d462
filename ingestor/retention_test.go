package ingestor_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func TestOldRecordsLeaveTheManifestOfARunningServer(t *testing.T) {
	config, secrets := testConfig(t)
	config.Memtable.GenerationAge = 10 * time.Millisecond
	config.Retention.Records, config.Retention.Interval, config.Retention.DeleteAfter = time.Hour, time.Millisecond, time.Millisecond
	r := start(t, config, secrets)
	send := func(age time.Duration, n int) {
		batch := batchOf("orders", storagepb.AckLevel_ACK_LEVEL_COMMITTED, n)
		for _, record := range batch.GetRecords() {
			record.TimestampUnixNano = time.Now().Add(-age).UnixNano()
		}
		_, err := r.client().WriteBatch(r.ctx(), batch)
		require.NoError(t, err)
	}
	send(48*time.Hour, 10)
	send(0, 7)
	files := func() map[string]manifest.File {
		state, err := manifest.Read(vfs.OS, filepath.Join(config.DataDir, "manifest"))
		require.NoError(t, err)
		return state.Files
	}
	require.Eventually(t, func() bool {
		return len(files()) == 1 && len(parquetFiles(t, config)) == 1
	}, time.Minute, 5*time.Millisecond)
	for _, f := range files() {
		require.EqualValues(t, 7, f.Rows)
		require.EqualValues(t, 11, f.FirstLSN)
	}
	r.drain()
}
