package parquetfile_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// apache/kafka#10680: a new file of a partition was synced, its directory was not, and a power cut took the name away. When Flush has returned,
// every state that a power cut can leave has all files, those in directories that this flush has made too.
func TestField_Kafka10680_LostDirectoryEntry(t *testing.T) {
	g := newGenerator(t, 10680)
	fsys := crashfs.New()
	require.NoError(t, fsys.MkdirAll("data", 0o755))
	require.NoError(t, fsys.SyncDir("."))
	s := openStore(t, fsys, "", nil)
	p := &publisherTest{t: t}
	for n := range 3 {
		gen := g.generation(
			spec{tenant: "acme", endpoint: "orders", records: 110, start: noon.Add(time.Duration(n) * 24 * time.Hour), spread: 2 * time.Hour},
			spec{tenant: "globex", endpoint: "orders", records: 5, start: noon},
		)
		require.NoError(t, s.Flush(t.Context(), gen, gen.First-1))
		p.sent = g.sent
		visited, _, err := fsys.Freeze().Visit(2000, 1, func(f *crashfs.FS, _ uint64) error {
			return p.recover(f, []uint64{gen.Last}, 3, 3) // a start, judged, and nothing after it
		})
		require.NoError(t, err)
		require.NotZero(t, visited)
	}
}
