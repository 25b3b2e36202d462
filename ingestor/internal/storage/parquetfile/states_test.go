package parquetfile_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// publisherTest publishes generations while the power is cut before each operation.
type publisherTest struct {
	t           testing.TB
	sent        []record
	generations []*memtable.Generation
	deepBound   int
	deeper      atomic.Int64
	// read holds what arrow-go found in each file, by the hash of its path and contents, so that each is read once.
	read sync.Map
}

// recover opens the store that a power cut left and judges it: flushed says how far it must, or may, have come. Now and then it is cut
// short, or goes on to publish.
func (p *publisherTest) recover(f *crashfs.FS, flushed []uint64, seed uint64, depth int) error {
	var moments []*crashfs.Moment
	watch := func(crashfs.Op) error {
		moments = append(moments, f.Freeze())
		return nil
	}
	if depth < 3 && seed%8 == 0 {
		f.Before(watch)
	}
	s, err := tryOpenStore(f, "", nil)
	f.Before(nil)
	if err != nil {
		return fmt.Errorf("the start is refused: %w", err)
	}
	defer s.close()
	found := s.manifest.Flushed(parquetfile.SinkName)
	if !slices.Contains(flushed, found) {
		return fmt.Errorf("the checkpoint is LSN %d, must be one of %v", found, flushed)
	}
	if err := p.judge(f, s, found); err != nil {
		return err
	}
	if seed%16 == 1 {
		if err := p.goOn(f, s, found); err != nil {
			return fmt.Errorf("after the recovery: %w", err)
		}
	}
	for i, m := range moments {
		visited, _, err := m.Visit(p.deepBound, seed+uint64(i), func(f *crashfs.FS, seed uint64) error {
			return p.recover(f, []uint64{found}, seed, depth+1)
		})
		p.deeper.Add(visited)
		if err != nil {
			return fmt.Errorf("power cut %d before operation %d of the recovery: %w", depth+1, i+1, err)
		}
	}
	return nil
}

// goOn publishes the next generation and opens the store once more.
func (p *publisherTest) goOn(f *crashfs.FS, s *store, flushed uint64) error {
	for _, g := range p.generations {
		if g.First != flushed+1 {
			continue
		}
		if err := s.Flush(context.Background(), g, flushed); err != nil {
			return err
		}
		s.close()
		again, err := tryOpenStore(f, "", nil)
		if err != nil {
			return err
		}
		defer again.close()
		return p.judge(f, again, g.Last)
	}
	return nil
}

// judge compares the files with what was sent: every record up to the checkpoint is in one file, byte by byte, no other is, and nothing
// lies about that the manifest does not list.
func (p *publisherTest) judge(f vfs.FS, s *store, flushed uint64) error {
	listed := s.manifest.State().Files
	there := 0
	if err := walkFiles(f, s.dir, func(string) { there++ }); err != nil {
		return err
	}
	if there != len(listed) {
		return fmt.Errorf("%d files, the manifest lists %d", there, len(listed))
	}
	seen := make([]bool, flushed)
	for _, file := range listed {
		lsns, err := p.rows(f, path.Join(s.dir, file.Path), file)
		if err != nil {
			return err
		}
		for _, lsn := range lsns {
			if lsn < 1 || uint64(lsn) > flushed || seen[lsn-1] {
				return fmt.Errorf("LSN %d is in %s, and the checkpoint is %d; or it is there twice", lsn, file.Path, flushed)
			}
			seen[lsn-1] = true
		}
	}
	if missing := slices.Index(seen, false); missing >= 0 {
		return fmt.Errorf("LSN %d is missing, and the checkpoint is %d", missing+1, flushed)
	}
	return nil
}

// rows reads a file and compares every row with what was sent. It returns the LSNs.
func (p *publisherTest) rows(f vfs.FS, name string, file manifest.File) ([]int64, error) {
	content, err := vfs.ReadFile(f, name)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(append([]byte(fmt.Sprint(file)), content...))
	if lsns, known := p.read.Load(hash); known {
		return lsns.([]int64), nil
	}
	if file.CRC32C != manifest.Checksum(content) || file.Bytes != int64(len(content)) {
		return nil, fmt.Errorf("%s is not what the manifest says", name)
	}
	rows := readFile(p.t, content)
	checkFile(p.t, file, rows)
	var lsns []int64
	for _, r := range rows {
		requireSame(p.t, []record{p.sent[r.LSN-1]}, []record{r})
		lsns = append(lsns, r.LSN)
	}
	p.read.Store(hash, lsns)
	return lsns, nil
}

// walkFiles calls fn for every file below dir.
func walkFiles(f vfs.FS, dir string, fn func(string)) error {
	names, err := f.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		below := path.Join(dir, name)
		if _, err := f.SizeBytes(below); err == nil {
			fn(below)
		} else if err := walkFiles(f, below, fn); err != nil {
			return err
		}
	}
	return nil
}

// TestEveryStateOfThePublisher cuts the power before every operation of a run that publishes, and again in the midst of the recovery. What is
// found is the last acknowledged prefix, or the one under way, whole; after recovery nothing else lies about.
func TestEveryStateOfThePublisher(t *testing.T) {
	run := crashlevel.Start(t, "Parquet publisher states", "states", "./ingestor/internal/storage/parquetfile")
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	target := int64(crashlevel.Pick(t, 200, 15_000, 2_000_000))
	for n, states := uint64(0), int64(0); states < target; n++ {
		g := newGenerator(t, run.Seed()+n)
		p := &publisherTest{t: t, deepBound: crashlevel.Pick(t, 1, 2, 10)}
		for range 3 {
			p.generations = append(p.generations, g.generation(
				spec{tenant: "acme", endpoint: "orders", records: 110, start: noon, spread: time.Hour},
				spec{tenant: "acme", endpoint: "a", records: 5, start: noon},
				spec{tenant: "acme", endpoint: "b", records: 5, start: noon},
				spec{tenant: "globex", endpoint: "a", records: 5, start: noon, columns: true},
			))
		}
		p.sent = g.sent
		e := &crashfs.Explorer{Seed: run.Seed() + n}
		fsys := crashfs.New()
		require.NoError(t, fsys.MkdirAll("data", 0o755)) // durable before anything is written to it: package datadir sees to that
		require.NoError(t, fsys.SyncDir("."))
		flushed, operation := []uint64{0}, 0
		bound := crashlevel.Pick(t, 1, 100, 1000)
		fsys.Before(func(op crashfs.Op) error {
			operation++
			then := slices.Clone(flushed)
			where := fmt.Sprintf("power cut before operation %d, %s of %s", operation, op.Kind, op.Name)
			e.Moment(fsys.Freeze(), bound, where, func(f *crashfs.FS, seed uint64) error { return p.recover(f, then, seed, 1) })
			return nil
		})
		s := openStore(t, fsys, "", nil)
		for _, gen := range p.generations[:2] {
			flushed = []uint64{gen.First - 1, gen.Last}
			require.NoError(t, s.Flush(t.Context(), gen, gen.First-1))
			flushed = []uint64{gen.Last}
		}
		fsys.Before(nil)
		explored, complete, err := e.Wait()
		states += explored + p.deeper.Load()
		run.Explored(explored + p.deeper.Load())
		t.Logf("%d states, %d within recoveries; of %d of %d moments all", explored, p.deeper.Load(), complete, operation)
		require.NoError(t, err, "run %d of seed %d", n, run.Seed())
	}
}
