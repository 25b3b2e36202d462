package manifest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	dir  = "data/manifest"
	path = dir + "/" + manifest.FileName
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, fsys vfs.FS) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Open(fsys, dir, manifest.Options{Logger: quiet})
	require.NoError(t, err)
	return m
}

// fileOf makes a plausible file for the LSNs [first, last].
func fileOf(endpoint string, first, last uint64) manifest.File {
	return manifest.File{
		Path:   fmt.Sprintf("tenant=acme/endpoint=x/date=2026-01-01/hour=00/%020d-%020d.parquet", first, last),
		Tenant: "acme", Endpoint: endpoint, Mixed: endpoint == "", FirstLSN: first, LastLSN: last,
		Rows: int64(last - first + 1), Bytes: 1234, MinTimeUnixNano: 5, MaxTimeUnixNano: 7, CRC32C: "00c0ffee",
	}
}

func TestStateSurvivesReopening(t *testing.T) {
	fsys := crashfs.New()
	m := open(t, fsys)
	require.Equal(t, uint64(1), m.State().OwnerEpoch)
	require.Empty(t, m.State().Files)
	snapshot, err := m.WriteSnapshot(20, []byte("producers"))
	require.NoError(t, err)
	a, b, c := fileOf("orders", 1, 10), fileOf("", 11, 20), fileOf("naïve \u2028 \U0001F980 <&>\x01", 21, 30)
	require.NoError(t, m.Commit(manifest.Edit{WALID: "0123456789abcdef0123456789abcdef", AddFiles: []manifest.File{a}}))
	require.NoError(t, m.Commit(manifest.Edit{
		AddFiles: []manifest.File{b, c}, Flushed: map[string]uint64{"parquet": 30, "timescale": 20}, Dedupe: &snapshot,
	}))
	require.NoError(t, m.Commit(manifest.Edit{RemoveFiles: []string{a.Path}, LowWatermark: 20}))
	want := m.State()
	require.Equal(t, map[string]manifest.File{b.Path: b, c.Path: c}, want.Files)
	require.Equal(t, map[string]uint64{"parquet": 30, "timescale": 20}, want.Flushed)
	require.Equal(t, uint64(30), m.Flushed("parquet"))
	require.Zero(t, m.Flushed("unknown"))
	require.NoError(t, m.Close())
	read, err := manifest.Read(fsys, dir)
	require.NoError(t, err)
	require.Equal(t, want, read)
	_, err = manifest.Read(fsys, "elsewhere")
	require.ErrorIs(t, err, os.ErrNotExist)

	for range 3 { // from edits, from a snapshot, and again
		m = open(t, fsys)
		want.OwnerEpoch++
		require.Equal(t, want, m.State())
		contents, lsn, err := m.ReadSnapshot()
		require.NoError(t, err)
		require.Equal(t, "producers", string(contents))
		require.Equal(t, uint64(20), lsn)
		require.NoError(t, m.Close())
	}
}

func TestStateIsACopy(t *testing.T) {
	m := open(t, crashfs.New())
	m.State().Flushed["parquet"] = 7
	m.State().Files["x"] = manifest.File{}
	require.Empty(t, m.State().Flushed)
	require.Empty(t, m.State().Files)
}

func TestImpossibleEditsAreRefused(t *testing.T) {
	m := open(t, crashfs.New())
	a := fileOf("orders", 1, 10)
	require.NoError(t, m.Commit(manifest.Edit{
		AddFiles: []manifest.File{a}, Flushed: map[string]uint64{"parquet": 10}, LowWatermark: 5,
	}))
	want := m.State()
	noEndpoint, noRows, backwards, notUTF8 := fileOf("x", 11, 20), fileOf("x", 11, 20), fileOf("x", 11, 20), fileOf("\xff", 11, 20)
	noEndpoint.Endpoint, noRows.Rows, backwards.LastLSN = "", 0, 10
	for name, edit := range map[string]manifest.Edit{
		"file listed already":      {AddFiles: []manifest.File{a}},
		"file added twice":         {AddFiles: []manifest.File{fileOf("x", 11, 20), fileOf("x", 11, 20)}},
		"unknown file removed":     {RemoveFiles: []string{"x"}},
		"file removed twice":       {RemoveFiles: []string{a.Path, a.Path}},
		"sink moves back":          {Flushed: map[string]uint64{"parquet": 9}},
		"low watermark moves back": {LowWatermark: 4},
		"no endpoint":              {AddFiles: []manifest.File{noEndpoint}},
		"no rows":                  {AddFiles: []manifest.File{noRows}},
		"LSNs backwards":           {AddFiles: []manifest.File{backwards}},
		"name is not UTF-8":        {AddFiles: []manifest.File{notUTF8}},
	} {
		require.Error(t, m.Commit(edit), name)
		require.Equal(t, want, m.State(), name)
	}
	require.NoError(t, m.Commit(manifest.Edit{Flushed: map[string]uint64{"parquet": 10}}), "not poisoned")
}

// An outside reader needs a JSON parser and, if it cares, a CRC32C.
func TestFormatIsPlainJSONLines(t *testing.T) {
	fsys := crashfs.New()
	m := open(t, fsys)
	require.NoError(t, m.Commit(manifest.Edit{AddFiles: []manifest.File{fileOf("naïve", 1, 10)}}))
	content, err := vfs.ReadFile(fsys, path)
	require.NoError(t, err)
	require.Equal(t, `{"crc32c":"d035ee30","edit":{"seq":1,"snapshot":true,"format":1,"owner_epoch":1}}
{"crc32c":"c6b58130","edit":{"seq":2,"add_files":[{"path":"tenant=acme/endpoint=x/date=2026-01-01/hour=00/`+
		`00000000000000000001-00000000000000000010.parquet","tenant":"acme","endpoint":"na\u00efve","first_lsn":1,"last_lsn":10,`+
		`"rows":10,"bytes":1234,"min_time_unix_nano":5,"max_time_unix_nano":7,"crc32c":"00c0ffee"}]}}
`, string(content))
	for line := range strings.Lines(string(content)) {
		var parsed struct {
			CRC32C string          `json:"crc32c"`
			Edit   json.RawMessage `json:"edit"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &parsed))
		crc := crc32.Checksum(parsed.Edit, crc32.MakeTable(crc32.Castagnoli))
		require.Equal(t, fmt.Sprintf("%08x", crc), parsed.CRC32C)
	}
}

// history commits a few edits and returns the file's contents.
func history(t *testing.T) []byte {
	t.Helper()
	fsys := crashfs.New()
	m := open(t, fsys)
	for i := range uint64(4) {
		require.NoError(t, m.Commit(manifest.Edit{
			AddFiles: []manifest.File{fileOf("orders", 10*i+1, 10*i+10)}, Flushed: map[string]uint64{"parquet": 10*i + 10},
		}))
	}
	content, err := vfs.ReadFile(fsys, path)
	require.NoError(t, err)
	return content
}

// openContent opens a manifest whose file has the given contents.
func openContent(t *testing.T, content []byte) (*manifest.Manifest, error) {
	t.Helper()
	fsys := crashfs.New()
	require.NoError(t, fsys.MkdirAll(dir, 0o755))
	require.NoError(t, vfs.WriteFileDurably(fsys, path, path+".tmp", content))
	return manifest.Open(fsys, dir, manifest.Options{Logger: quiet})
}

// Every file that a cut write can leave opens with the edits before it; all other damage is refused, at the damaged line.
func TestTornTailIsDroppedAndDamageRefused(t *testing.T) {
	content := history(t)
	lines := bytes.SplitAfter(content, []byte("\n"))
	lines = lines[:len(lines)-1]
	last := len(content) - len(lines[len(lines)-1])
	firstLine := len(lines[0])

	for cut := firstLine; cut < len(content); cut++ {
		m, err := openContent(t, content[:cut])
		require.NoError(t, err, "cut at %d", cut)
		require.Len(t, m.State().Files, bytes.Count(content[:cut], []byte("\n"))-1)
	}
	for cut := range firstLine {
		_, err := openContent(t, content[:cut])
		var corrupt *manifest.CorruptionError
		require.ErrorAs(t, err, &corrupt, "cut at %d", cut)
		require.Zero(t, corrupt.OffsetBytes)
	}
	for at := range content {
		damaged := bytes.Clone(content)
		damaged[at] ^= 1
		_, err := openContent(t, damaged)
		if at >= last && err == nil {
			continue // a piece of the last line that is too short to tell, or its end: checked below
		}
		var corrupt *manifest.CorruptionError
		require.ErrorAs(t, err, &corrupt, "bit flipped at %d", at)
		line := bytes.Count(content[:at], []byte("\n"))
		require.Equal(t, len(bytes.Join(lines[:line], nil)), int(corrupt.OffsetBytes), "bit flipped at %d", at)
	}
	_, err := openContent(t, bytes.Replace(content, []byte(`"seq":5`), []byte(`"seq":6`), 1))
	require.Error(t, err, "a wrong checksum in the last line")
	zeroed := bytes.Clone(content)
	clear(zeroed[last+20 : last+40])
	m, err := openContent(t, zeroed)
	require.NoError(t, err)
	require.Len(t, m.State().Files, 3)
}

func TestMissingOrRepeatedLineIsRefused(t *testing.T) {
	lines := bytes.SplitAfter(history(t), []byte("\n"))
	join := func(order ...int) []byte {
		var b []byte
		for _, i := range order {
			b = append(b, lines[i]...)
		}
		return b
	}
	for name, content := range map[string][]byte{
		"missing":         join(0, 1, 3, 4),
		"missing first":   join(1, 2),
		"repeated":        join(0, 1, 1, 2),
		"out of order":    join(0, 2, 1),
		"second snapshot": join(0, 1, 0),
		"no edit":         append(join(0, 1), strings.Repeat("x", 40)+"\n"...),
		"empty":           nil,
	} {
		_, err := openContent(t, content)
		var corrupt *manifest.CorruptionError
		require.ErrorAs(t, err, &corrupt, name)
	}
}

func TestUnknownFieldsAndFormatsAreRefused(t *testing.T) {
	for _, edit := range []string{
		`{"seq":1,"snapshot":true,"format":2,"owner_epoch":1}`,
		`{"seq":1,"snapshot":true,"format":1,"owner_epoch":1,"new_field":1}`,
	} {
		line := fmt.Sprintf("{\"crc32c\":\"%s\",\"edit\":%s}\n", manifest.Checksum([]byte(edit)), edit)
		_, err := openContent(t, []byte(line))
		var corrupt *manifest.CorruptionError
		require.ErrorAs(t, err, &corrupt)
	}
}

func TestBeforeCreateStopsOpen(t *testing.T) {
	fsys := crashfs.New()
	lost := errors.New("there are files")
	for range 2 {
		_, err := manifest.Open(fsys, dir, manifest.Options{Logger: quiet, BeforeCreate: func() error { return lost }})
		require.ErrorIs(t, err, lost)
	}
	open(t, fsys)
	_, err := manifest.Open(fsys, dir, manifest.Options{Logger: quiet, BeforeCreate: func() error { return lost }})
	require.NoError(t, err, "not asked when there is a manifest")
}

func TestLongFileIsRewritten(t *testing.T) {
	fsys := crashfs.New()
	m, err := manifest.Open(fsys, dir, manifest.Options{Logger: quiet, MinRewriteBytes: 2000})
	require.NoError(t, err)
	longest := int64(0)
	for i := range uint64(200) {
		edit := manifest.Edit{AddFiles: []manifest.File{fileOf("x", i+1, i+1)}, Flushed: map[string]uint64{"parquet": i + 1}}
		if i > 0 {
			edit.RemoveFiles = []string{fileOf("x", i, i).Path}
		}
		require.NoError(t, m.Commit(edit))
		size, err := fsys.SizeBytes(path)
		require.NoError(t, err)
		longest = max(longest, size)
	}
	require.Less(t, longest, int64(3500))
	want := m.State()
	require.NoError(t, m.Close())
	m = open(t, fsys)
	want.OwnerEpoch++
	require.Equal(t, want, m.State())
}

func TestFormerSnapshotIsRemoved(t *testing.T) {
	fsys := crashfs.New()
	m := open(t, fsys)
	for i := range 3 {
		snapshot, err := m.WriteSnapshot(7, []byte{byte(i)}) // one LSN, and yet never the same name
		require.NoError(t, err)
		require.NoError(t, m.Commit(manifest.Edit{Dedupe: &snapshot}))
	}
	_, err := m.WriteSnapshot(8, []byte("never committed"))
	require.NoError(t, err)
	require.NoError(t, m.Close())
	m = open(t, fsys)
	names, err := fsys.List(dir)
	require.NoError(t, err)
	require.Equal(t, []string{manifest.FileName, m.State().Dedupe.Name}, names)
	contents, lsn, err := m.ReadSnapshot()
	require.NoError(t, err)
	require.Equal(t, []byte{2}, contents)
	require.Equal(t, uint64(7), lsn)
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	fsys := crashfs.New()
	m := open(t, fsys)
	snapshot, err := m.WriteSnapshot(7, []byte("producers"))
	require.NoError(t, err)
	require.NoError(t, m.Commit(manifest.Edit{Dedupe: &snapshot}))
	file, err := fsys.OpenFile(dir+"/"+snapshot.Name, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("P"), 0)
	require.NoError(t, err)
	_, _, err = m.ReadSnapshot()
	var corrupt *manifest.CorruptionError
	require.ErrorAs(t, err, &corrupt)
}

func TestFailedWriteOrSyncPoisons(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Write, crashfs.Sync} {
		fsys := crashfs.New()
		m := open(t, fsys)
		fsys.Before(func(op crashfs.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		})
		edit := manifest.Edit{Flushed: map[string]uint64{"parquet": 1}}
		err := m.Commit(edit)
		require.ErrorIs(t, err, manifest.ErrPoisoned)
		require.ErrorIs(t, err, syscall.EIO)
		var fatal interface{ Fatal() bool }
		require.ErrorAs(t, err, &fatal)
		require.True(t, fatal.Fatal())
		fsys.Before(nil)
		require.ErrorIs(t, m.Commit(edit), manifest.ErrPoisoned, "for ever")
		require.ErrorIs(t, m.Err(), syscall.EIO)
		_, err = m.WriteSnapshot(1, nil)
		require.ErrorIs(t, err, manifest.ErrPoisoned)
	}
}

func TestNoSpaceChangesNothing(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Write, crashfs.Reserve} {
		fsys := crashfs.New()
		m := open(t, fsys)
		require.NoError(t, m.Commit(manifest.Edit{Flushed: map[string]uint64{"parquet": 1}}))
		want := m.State()
		fsys.Before(func(op crashfs.Op) error {
			if op.Kind == kind {
				return syscall.ENOSPC
			}
			return nil
		})
		big := manifest.Edit{Flushed: map[string]uint64{"parquet": 2}}
		for i := range uint64(2000) { // beyond what is reserved
			big.AddFiles = append(big.AddFiles, fileOf("x", i+1, i+1))
		}
		require.ErrorIs(t, m.Commit(big), manifest.ErrNoSpace)
		require.Equal(t, want, m.State())
		if kind == crashfs.Write {
			_, err := m.WriteSnapshot(1, []byte("x"))
			require.ErrorIs(t, err, manifest.ErrNoSpace)
		}
		fsys.Before(nil)
		require.NoError(t, m.Err())
		require.NoError(t, m.Commit(big))
		require.NoError(t, m.Close())
		require.Len(t, open(t, fsys).State().Files, 2000)
	}
}
