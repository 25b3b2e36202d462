package parquetfile_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// Rows and columns, several hours, small and large tables, every codec: an independent reader finds every record once, with every byte.
func TestEveryRecordIsFoundOnce(t *testing.T) {
	for _, compression := range []parquetfile.Compression{parquetfile.Zstd, parquetfile.Snappy, parquetfile.None} {
		t.Run(string(compression), func(t *testing.T) {
			g := newGenerator(t, rand.Uint64())
			s := openStore(t, vfs.OS, t.TempDir(), func(o *parquetfile.Options) {
				o.Compression = compression
				o.Niceness, o.Threads, o.BloomFilter = 5, 3, true
			})
			for range 3 {
				previous := g.next - 1
				gen := g.generation(
					spec{tenant: "acme", endpoint: "orders", records: 3000, start: noon, spread: 20 * time.Minute},
					spec{tenant: "acme", endpoint: "sensors", records: 50, start: noon, spread: time.Hour, columns: true},
					spec{tenant: "globex", endpoint: "orders", records: 1, start: noon, contentType: "text/plain"},
					spec{tenant: "acme", endpoint: "orders", records: 4000, start: noon, spread: 50 * time.Minute, columns: true,
						contentType: "application/x-protobuf"},
					spec{tenant: "acme", endpoint: "alarms", records: 99, start: noon, spread: 3 * time.Hour},
					spec{tenant: "acme", endpoint: "orders", records: 1, start: time.Unix(0, 1)},
				)
				require.NoError(t, s.Flush(t.Context(), gen, previous))
				flushed, err := s.Flushed(t.Context())
				require.NoError(t, err)
				require.Equal(t, gen.Last, flushed)
			}
			requireSame(t, g.sent, s.readAll(t))

			// Nothing but the manifest's files is left, and a restart finds the same.
			listed := s.manifest.State().Files
			require.Len(t, s.files(t), len(listed))
			s.close()
			s = openStore(t, vfs.OS, strings.TrimSuffix(s.dir, "/"+parquetDir), nil)
			requireSame(t, g.sent, s.readAll(t))
		})
	}
}

func TestSmallTablesOfATenantShareFiles(t *testing.T) {
	g := newGenerator(t, 1)
	s := openStore(t, crashfs.New(), "", nil)
	var specs []spec
	for i := range 60 {
		endpoint := string(rune('A'+i%20)) + "-endpoint"
		specs = append(specs, spec{tenant: "acme", endpoint: endpoint, records: 5, start: noon, spread: time.Minute})
	}
	specs = append(specs, spec{tenant: "acme", endpoint: "big", records: 100, start: noon},
		spec{tenant: "globex", endpoint: "alone", records: 5, start: noon})
	require.NoError(t, s.Flush(t.Context(), g.generation(specs...), 0))
	var endpoints []string
	for _, f := range s.manifest.State().SortedFiles() {
		endpoints = append(endpoints, f.Tenant+"/"+f.Endpoint)
		require.Equal(t, f.Mixed, strings.Contains(f.Path, "/endpoint=__mixed__/"))
	}
	require.Equal(t, []string{"acme/", "acme/big", "globex/alone"}, endpoints)
	requireSame(t, g.sent, s.readAll(t))
}

func TestScatteredTimesDoNotMakeAFileOfEachRecord(t *testing.T) {
	g := newGenerator(t, 12)
	s := openStore(t, crashfs.New(), "", nil)
	require.NoError(t, s.Flush(t.Context(), g.generation(
		spec{tenant: "acme", endpoint: "scattered", records: 2000, start: time.Unix(0, 1), spread: 50 * 365 * 24 * time.Hour},
		spec{tenant: "acme", endpoint: "a", records: 90, start: time.Unix(0, 1), spread: 200 * 365 * 24 * time.Hour},
		spec{tenant: "acme", endpoint: "b", records: 90, start: time.Unix(0, 1), spread: 200 * 365 * 24 * time.Hour},
		spec{tenant: "acme", endpoint: "days", records: 2000, start: noon, spread: 72 * time.Hour},
	), 0))
	requireSame(t, g.sent, s.readAll(t))
	require.Len(t, s.files(t), 1+1+73)
	require.Contains(t, s.files(t)[0], "/endpoint=__mixed__/date=__mixed__/hour=__mixed__/")
}

// Names that would leave their directory, or collide, if they were taken as they are.
var hostileNames = []string{
	".", "..", "../..", "/", "/etc/passwd", "a/b", "a%2Fb", "__mixed__", "%5F_mixed__", "_", "__", "___", "a b", "tenant=x",
	"naïve", "\u2603", "a\\b", "a\nb", "~", "CON", "a.parquet", strings.Repeat("x", 255), strings.Repeat("/", 255),
	strings.Repeat("/", 254) + "x", "-rf",
}

func TestHostileNames(t *testing.T) {
	g := newGenerator(t, 2)
	root := t.TempDir()
	s := openStore(t, vfs.OS, root, func(o *parquetfile.Options) { o.SmallTableRows = -1 })
	var specs []spec
	for _, name := range hostileNames {
		specs = append(specs, spec{tenant: name, endpoint: "orders", records: 2, start: noon},
			spec{tenant: "acme", endpoint: name, records: 2, start: noon})
	}
	require.NoError(t, s.Flush(t.Context(), g.generation(specs...), 0))
	requireSame(t, g.sent, s.readAll(t))
	require.Len(t, s.files(t), 2*len(hostileNames))
	names, err := vfs.OS.List(root)
	require.NoError(t, err)
	require.Equal(t, []string{"data"}, names)
}

func TestEscape(t *testing.T) {
	for name, want := range map[string]string{
		"orders":    "orders",
		"a-b_c.d":   "a-b_c.d",
		".":         "%2E",
		"..":        "%2E.",
		"...":       "...",
		"_a":        "_a",
		"__mixed__": "%5F_mixed__",
		"a/b":       "a%2Fb",
		"a%2Fb":     "a%252Fb",
		"~":         "%7E",
		"é":         "%C3%A9",
	} {
		require.Equal(t, want, parquetfile.Escape(name))
	}
	seen := map[string]string{}
	for _, name := range hostileNames {
		escaped := parquetfile.Escape(name)
		require.LessOrEqual(t, len(escaped), 200)
		require.NotContains(t, escaped, "/")
		require.NotContains(t, seen, escaped)
		seen[escaped] = name
	}
}

func TestFooterSaysHowTheFileIsSorted(t *testing.T) {
	g := newGenerator(t, 3)
	s := openStore(t, crashfs.New(), "", nil)
	long := strings.Repeat("endpoint-with-a-long-name-", 4)
	require.NoError(t, s.Flush(t.Context(), g.generation(
		spec{tenant: "acme", endpoint: "orders", records: 6000, start: noon, spread: 20 * time.Minute},
		spec{tenant: "acme", endpoint: long + "a", records: 50, start: noon},
		spec{tenant: "acme", endpoint: long + "b", records: 50, start: noon},
	), 0))
	for _, f := range s.manifest.State().SortedFiles() {
		content, err := vfs.ReadFile(s.fsys, path.Join(s.dir, f.Path))
		require.NoError(t, err)
		reader, err := file.NewParquetReader(bytes.NewReader(content))
		require.NoError(t, err)
		groups := reader.NumRowGroups()
		require.Equal(t, map[bool]int{false: 3, true: 1}[f.Mixed], groups)
		for i := range groups {
			group := reader.MetaData().RowGroup(i)
			sorting := group.SortingColumns()
			if f.Mixed {
				require.Len(t, sorting, 2)
				require.Equal(t, int32(7), sorting[0].ColumnIdx)
			}
			require.Equal(t, int32(1), sorting[len(sorting)-1].ColumnIdx)
			chunk, err := group.ColumnChunk(1)
			require.NoError(t, err)
			stats, err := chunk.Statistics()
			require.NoError(t, err)
			times, ok := stats.(*metadata.Int64Statistics)
			require.True(t, ok && times.HasMinMax())
			require.GreaterOrEqual(t, times.Min(), f.MinTimeUnixNano)
			require.LessOrEqual(t, times.Max(), f.MaxTimeUnixNano)
			if i == 0 {
				require.Equal(t, f.MinTimeUnixNano, times.Min())
			}
			if i == groups-1 && !f.Mixed {
				require.Equal(t, f.MaxTimeUnixNano, times.Max())
			}
		}
		require.NoError(t, reader.Close())
	}
}

// Readers skip row groups and pages by these bounds: one that is too narrow hides rows.
func TestBoundsHoldForEveryValue(t *testing.T) {
	g := newGenerator(t, 14)
	s := openStore(t, crashfs.New(), "", nil)
	long := strings.Repeat("\U0010FFFF", 20)
	var specs []spec
	for i := range 20 {
		specs = append(specs, spec{tenant: "acme", endpoint: long + string(rune('A'+i)), records: 90, start: noon,
			contentType: strings.Repeat("x/", 50) + string(rune('A'+i))})
	}
	specs = append(specs, spec{tenant: "acme", endpoint: "big", records: 6000, start: noon, spread: time.Minute})
	require.NoError(t, s.Flush(t.Context(), g.generation(specs...), 0))
	for _, f := range s.manifest.State().SortedFiles() {
		content, err := vfs.ReadFile(s.fsys, path.Join(s.dir, f.Path))
		require.NoError(t, err)
		decoded, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
		require.NoError(t, err)
		for i, group := range decoded.RowGroups() {
			for column, chunk := range group.ColumnChunks() {
				stats := decoded.Metadata().RowGroups[i].Columns[column].MetaData.Statistics
				checkBounds(t, schemaName(column), chunk, stats.MinValue, stats.MaxValue)
			}
		}
	}
}

func schemaName(column int) string {
	return []string{"event_id", "timestamp", "version", "payload", "content_type", "attributes", "tenant_id", "endpoint_id",
		"lsn"}[column]
}

// checkBounds compares every value of a column chunk with the chunk's and its page's bounds.
func checkBounds(t *testing.T, name string, chunk parquet.ColumnChunk, chunkMin, chunkMax []byte) {
	t.Helper()
	if name == "payload" || name == "attributes" {
		return
	}
	kind := chunk.Type().Kind()
	index, err := chunk.ColumnIndex()
	require.NoError(t, err)
	pages := chunk.Pages()
	defer func() { require.NoError(t, pages.Close()) }()
	compare := chunk.Type().Compare
	for i := 0; ; i++ {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		values := make([]parquet.Value, page.NumValues())
		_, _ = page.Values().ReadValues(values)
		for _, v := range values {
			if v.IsNull() {
				continue
			}
			require.False(t, index.NullPage(i))
			require.LessOrEqual(t, compare(kind.Value(chunkMin), v), 0, name)
			require.GreaterOrEqual(t, compare(kind.Value(chunkMax), v), 0, name)
			require.LessOrEqual(t, compare(index.MinValue(i), v), 0, name)
			require.GreaterOrEqual(t, compare(index.MaxValue(i), v), 0, name)
		}
		parquet.Release(page)
	}
}

func TestFlushNeedsTheRightCheckpoint(t *testing.T) {
	g := newGenerator(t, 4)
	s := openStore(t, crashfs.New(), "", nil)
	gen := g.generation(spec{tenant: "acme", endpoint: "orders", records: 10, start: noon})
	require.Error(t, s.Flush(t.Context(), gen, 3))
	require.Empty(t, s.files(t))
	require.NoError(t, s.Flush(t.Context(), gen, 0))
	require.Error(t, s.Flush(t.Context(), gen, 0), "already stored")
	requireSame(t, g.sent, s.readAll(t))
}

func TestAGapMovesOnlyTheCheckpoint(t *testing.T) {
	g := newGenerator(t, 5)
	s := openStore(t, crashfs.New(), "", nil)
	require.NoError(t, s.Flush(t.Context(), memtable.NewGap(1, 7), 0))
	flushed, err := s.Flushed(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, flushed)
	require.Empty(t, s.files(t))
	require.Error(t, s.Flush(t.Context(), memtable.NewGap(1, 7), 0), "flushed already")
	g.next = 8
	require.NoError(t, s.Flush(t.Context(), g.generation(spec{tenant: "acme", endpoint: "orders", records: 10, start: noon}), 7))
	requireSame(t, g.sent, s.readAll(t))
}

// fatal tells whether an error stops the server.
func fatal(err error) bool {
	var f interface{ Fatal() bool }
	return errors.As(err, &f) && f.Fatal()
}

func TestFullDiskLeavesNothingBehindAndIsTriedAgain(t *testing.T) {
	for capacity := int64(1000); ; capacity += 7000 {
		g := newGenerator(t, 5)
		fsys := crashfs.New()
		s := openStore(t, fsys, "", nil)
		gen := g.generation(
			spec{tenant: "acme", endpoint: "a", records: 400, start: noon, spread: time.Hour},
			spec{tenant: "acme", endpoint: "b", records: 400, start: noon, spread: time.Hour},
		)
		fsys.SetCapacity(capacity)
		err := s.Flush(t.Context(), gen, 0)
		if err == nil {
			require.Greater(t, capacity, int64(100_000), "the disk was full at first")
			return
		}
		require.False(t, fatal(err), "%v", err)
		require.Empty(t, s.files(t))
		fsys.SetCapacity(0)
		require.NoError(t, s.Flush(t.Context(), gen, 0))
		requireSame(t, g.sent, s.readAll(t))
		s.close()
	}
}

func TestCancelledFlushLeavesNothingBehind(t *testing.T) {
	g := newGenerator(t, 6)
	s := openStore(t, crashfs.New(), "", nil)
	gen := g.generation(spec{tenant: "acme", endpoint: "orders", records: 200, start: noon})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Flush(ctx, gen, 0)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, fatal(err))
	require.Empty(t, s.files(t))
	require.NoError(t, s.Flush(t.Context(), gen, 0))
	requireSame(t, g.sent, s.readAll(t))
}

func TestFailedOperationIsFatal(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Create, crashfs.Write, crashfs.Sync, crashfs.Rename, crashfs.SyncDir} {
		g := newGenerator(t, 7)
		fsys := crashfs.New()
		s := openStore(t, fsys, "", nil)
		fsys.Before(func(op crashfs.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		})
		err := s.Flush(t.Context(), g.generation(spec{tenant: "acme", endpoint: "orders", records: 5, start: noon}), 0)
		require.ErrorIs(t, err, syscall.EIO)
		require.True(t, fatal(err), kind)
		require.Zero(t, s.manifest.Flushed(parquetfile.SinkName))
	}
}

// lyingFS changes one byte of every Parquet file between write and read.
type lyingFS struct {
	*crashfs.FS
	offset int64 // from the file's end where negative
}

type lyingFile struct {
	vfs.File
	offset int64
}

func (f lyingFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	opened, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || flag != 0 || !strings.Contains(name, ".parquet") {
		return opened, err
	}
	return lyingFile{opened, f.offset}, nil
}

func (f lyingFile) ReadAt(b []byte, offset int64) (int, error) {
	n, err := f.File.ReadAt(b, offset)
	size, _ := f.SizeBytes()
	at := f.offset
	if at < 0 {
		at += size
	}
	if at >= offset && at < offset+int64(n) {
		b[at-offset] ^= 0x10
	}
	return n, err
}

func TestReadBackFindsEveryDifference(t *testing.T) {
	for _, offset := range []int64{0, 4, 100, 5000, -1, -8, -200} {
		g := newGenerator(t, 8)
		s := openStore(t, lyingFS{crashfs.New(), offset}, "", nil)
		err := s.Flush(t.Context(), g.generation(spec{tenant: "acme", endpoint: "orders", records: 500, start: noon}), 0)
		var mismatch *parquetfile.MismatchError
		require.ErrorAs(t, err, &mismatch, "byte %d", offset)
		require.True(t, fatal(err))
		require.Zero(t, s.manifest.Flushed(parquetfile.SinkName))
	}
}

func TestStartRemovesOrphansAndMissesNothing(t *testing.T) {
	g := newGenerator(t, 9)
	root := t.TempDir()
	s := openStore(t, vfs.OS, root, nil)
	require.NoError(t, s.Flush(t.Context(), g.generation(spec{tenant: "acme", endpoint: "orders", records: 5, start: noon}), 0))
	listed := s.files(t)
	require.Len(t, listed, 1)
	below := path.Dir(listed[0])
	for _, name := range []string{"00-01.parquet", "00-01.parquet.tmp", "notes.txt"} {
		name = path.Join(s.dir, below, name)
		require.NoError(t, vfs.WriteFileDurably(vfs.OS, name, name+"~", []byte("x")))
	}
	s.close()
	s = openStore(t, vfs.OS, root, nil)
	require.ElementsMatch(t, []string{listed[0], path.Join(below, "notes.txt")}, s.files(t))
	s.close()

	file, err := vfs.OS.OpenFile(path.Join(s.dir, listed[0]), 1, 0)
	require.NoError(t, err)
	require.NoError(t, file.Truncate(10))
	require.NoError(t, file.Close())
	_, err = tryOpenStore(vfs.OS, root, nil)
	var mismatch *parquetfile.MismatchError
	require.ErrorAs(t, err, &mismatch)
	require.NoError(t, vfs.OS.Remove(path.Join(s.dir, listed[0])))
	_, err = tryOpenStore(vfs.OS, root, nil)
	require.ErrorContains(t, err, "cannot be found")
}

func TestLostManifestDoesNotCondemnTheFiles(t *testing.T) {
	g := newGenerator(t, 10)
	root := t.TempDir()
	s := openStore(t, vfs.OS, root, nil)
	require.NoError(t, s.Flush(t.Context(), g.generation(spec{tenant: "acme", endpoint: "orders", records: 5, start: noon}), 0))
	listed := s.files(t)
	s.close()
	require.NoError(t, vfs.OS.Remove(path.Join(root, manifestDir, manifest.FileName)))
	for range 2 {
		_, err := tryOpenStore(vfs.OS, root, nil)
		require.ErrorContains(t, err, "restore the manifest")
		require.Equal(t, listed, s.files(t))
	}
}

func TestDirectIO(t *testing.T) {
	root := t.TempDir()
	works, err := vfs.DirectWorks(vfs.OS, root, "probe")
	require.NoError(t, err)
	g := newGenerator(t, 11)
	s := openStore(t, vfs.OS, root, func(o *parquetfile.Options) { o.DirectIO = works })
	require.NoError(t, s.Flush(t.Context(), g.generation(
		spec{tenant: "acme", endpoint: "big", records: 30_000, start: noon},
		spec{tenant: "acme", endpoint: "tiny", records: 1, start: noon},
	), 0))
	requireSame(t, g.sent, s.readAll(t))
}

// The names that lead to a file are durable before the manifest speaks of it: those of new directories too.
func TestEveryNameIsSyncedBeforeTheCommit(t *testing.T) {
	g := newGenerator(t, 13)
	fsys := crashfs.New()
	s := openStore(t, fsys, "", nil)
	pending := map[string]string{} // what must be synced yet: a directory for its names, a file for its contents
	commits := 0
	fsys.Before(func(op crashfs.Op) error {
		if strings.HasPrefix(op.Name, manifestDir) {
			if op.Kind == crashfs.Write {
				commits++
				require.Empty(t, pending, "at the commit")
			}
			return nil
		}
		switch op.Kind {
		case crashfs.Mkdir, crashfs.Create, crashfs.Rename:
			pending[path.Dir(op.Name)] = string(op.Kind) + " " + op.Name
		case crashfs.Write:
			pending[op.Name] = "write"
		case crashfs.Sync, crashfs.SyncDir:
			delete(pending, op.Name)
		}
		return nil
	})
	for range 2 {
		previous := g.next - 1
		require.NoError(t, s.Flush(t.Context(), g.generation(
			spec{tenant: "acme", endpoint: "orders", records: 120, start: noon, spread: 2 * time.Hour},
			spec{tenant: "globex", endpoint: "orders", records: 5, start: noon},
		), previous))
	}
	require.Equal(t, 2, commits)
}
