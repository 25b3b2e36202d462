package processor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// pipeline is a whole server, from committer to log, Parquet files, a database and manifest, that does one thing at a time: its processor is not
// started, its steps are taken one by one. So the run is the same whenever it is repeated, and a power cut can fall between any two
// operations.
type pipeline struct {
	world
	parquet  *parquetfile.Sink
	database *database
}

const pipelineParquet = "data/parquet"

func openPipeline(fsys *crashfs.FS, db *database) (_ *pipeline, err error) {
	l := &pipeline{database: db, world: world{fs: fsys, bus: events.NewBus(), memory: slab.New(1<<20, nil), fatal: make(chan error, 2), registry: prometheus.NewRegistry()}}
	l.running, l.stop = context.WithCancel(context.Background())
	onFatal := func(err error) {
		l.fatal <- err
		l.stop()
	}
	defer func() {
		if err != nil {
			_ = l.abandon()
		}
	}()
	logger := slog.New(slog.DiscardHandler)
	l.manifest, err = manifest.Open(fsys, "data/manifest", manifest.Options{
		Logger: logger, BeforeCreate: func() error { return parquetfile.CheckEmpty(fsys, pipelineParquet) },
	})
	if err != nil {
		return nil, err
	}
	set := testSettings()
	set.processor.MemoryBytes = 4 << 10 // some of it is read from the log again
	rebuild, err := NewRebuild(l.manifest, set.processor.MaxProducers)
	if err != nil {
		return nil, err
	}
	l.log, err = wal.Open(context.Background(), wal.Options{
		Dir: "data/wal", FS: fsys, SegmentSizeBytes: 16 << 10, SpareSegments: -1, MaxGroupBytes: 8 << 10, DirectIO: wal.DirectOff,
		FirstLSN: l.manifest.State().LowWatermark + 1, OnFrame: rebuild.Frame,
	})
	if err != nil {
		return nil, err
	}
	l.parquet, err = parquetfile.Open(parquetfile.Options{FS: fsys, Dir: pipelineParquet, Manifest: l.manifest, Logger: logger, Registerer: l.registry})
	if err != nil {
		return nil, err
	}
	sinks := []Sink{l.parquet, &fakeSink{lock: &sync.Mutex{}, database: db}}
	l.processor, err = New(set.processor, Dependencies{
		Log: l.log, Manifest: l.manifest, Sinks: sinks, Events: l.bus, Logger: logger, Registerer: l.registry, OnFatal: onFatal,
	})
	if err != nil {
		return nil, err
	}
	recovered, err := l.processor.Recover(context.Background(), rebuild)
	if err != nil {
		return nil, err
	}
	set.ingestion.Generation = memtable.Limits{GenerationBytes: 1 << 20, GenerationRecords: 10_000, GenerationAge: set.ingestion.IdleAfter}
	l.service, err = ingestion.New(set.ingestion, ingestion.Dependencies{
		Log: l.log, Dedupe: recovered.Dedupe, CommittedLSN: recovered.CommittedLSN, Memory: l.memory,
		Generations: l.processor, Events: l.bus, Stages: telemetry.NewStages(), Logger: logger, Registerer: l.registry,
		OnFatal: onFatal,
	})
	return l, err
}

// flush seals what was committed, and takes the steps of all sinks and of the checkpoint.
func (l *pipeline) flush() error {
	ctx := context.Background()
	if err := l.service.Seal(ctx); err != nil {
		return err
	}
	l.processor.absorb()
	for _, w := range l.processor.workers {
		for worked := true; worked; {
			var err error
			if worked, err = w.step(ctx); err != nil {
				return err
			}
		}
	}
	return l.processor.checkpoint()
}

// abandon releases what the server has; what it writes then comes after the power cut.
func (l *pipeline) abandon() error {
	l.fs.Before(nil)
	if l.service != nil {
		_ = l.service.Drain(context.Background())
	}
	if l.processor != nil {
		l.processor.backlog.clear()
	}
	if l.service != nil {
		_ = l.service.Close()
	}
	l.bus.Close()
	if l.parquet != nil {
		l.parquet.Close()
	}
	if l.log != nil {
		_ = l.log.Close()
	}
	if l.manifest != nil {
		_ = l.manifest.Close()
	}
	l.stop()
	if used := l.memory.UsedBytes(); used != 0 {
		return fmt.Errorf("%d bytes of memory were not released", used)
	}
	return nil
}

// submit sends a batch and waits for the answer.
func (l *pipeline) submit(id batchID, records int) (*ingestion.Submission, error) {
	done := make(chan *ingestion.Submission, 1)
	if err := l.send(encode(id, 1, records), ingestion.WALSynced, func(s *ingestion.Submission) { done <- s }); err != nil {
		return nil, err
	}
	s := <-done
	if s.Err != nil {
		return nil, s.Err
	}
	return s, nil
}

// ledger is what the outside knows: what was sent, in this order, and where it was acked.
type ledger struct {
	sent    []batchID
	records map[batchID]int
	acked   map[batchID]uint64 // first LSN
}

func (h *ledger) clone() *ledger {
	return &ledger{sent: h.sent[:len(h.sent):len(h.sent)], records: maps.Clone(h.records), acked: maps.Clone(h.acked)}
}

// pipelineTest recovers whole servers.
type pipelineTest struct {
	t         testing.TB
	deepBound int
	deepEvery uint64
	deeper    atomic.Int64
	// read holds the rows of each Parquet file, by the hash of its contents, so that each is read once.
	read sync.Map
}

// recover starts a server on what a power cut left and lets the clients send everything again: what was acked is acked at the same place, and
// in the end both sinks hold every batch once.
func (p *pipelineTest) recover(f *crashfs.FS, db *database, h *ledger, seed uint64, depth int) error {
	var moments []*crashfs.Moment
	if depth < 3 && seed%(p.deepEvery<<(2*depth-2)) == 0 {
		f.Before(func(crashfs.Op) error {
			moments = append(moments, f.Freeze())
			return nil
		})
	}
	before := db.clone()
	l, err := openPipeline(f, db)
	f.Before(nil)
	if err != nil {
		return fmt.Errorf("the start is refused: %w", err)
	}
	if err := errors.Join(p.resend(l, h), l.abandon()); err != nil {
		return err
	}
	return p.visit(moments, before, h, seed, depth, "of the recovery")
}

func (p *pipelineTest) visit(moments []*crashfs.Moment, db *database, h *ledger, seed uint64, depth int, what string) error {
	for i, m := range moments {
		visited, _, err := m.Visit(p.deepBound, seed+uint64(i), func(f *crashfs.FS, seed uint64) error {
			return p.recover(f, db.clone(), h, seed, depth+1)
		})
		p.deeper.Add(visited)
		if err != nil {
			return fmt.Errorf("power cut %d before operation %d %s: %w", depth+1, i+1, what, err)
		}
	}
	return nil
}

// resend lets the clients send everything again and compares the sinks with it.
func (p *pipelineTest) resend(l *pipeline, h *ledger) error {
	acked := maps.Clone(h.acked)
	for _, id := range h.sent {
		s, err := l.submit(id, h.records[id])
		if err != nil {
			return fmt.Errorf("batch %v, sent again: %w", id, err)
		}
		if first, known := h.acked[id]; known && (first != s.FirstLSN || !s.Duplicate) {
			return fmt.Errorf("batch %v was acked at LSN %d and, sent again, at %d, duplicate: %v", id, first, s.FirstLSN, s.Duplicate)
		}
		acked[id] = s.FirstLSN
	}
	if err := l.flush(); err != nil {
		return err
	}
	if len(l.fatal) > 0 {
		return <-l.fatal
	}
	return p.judge(l, h, acked)
}

// judge compares both sinks with what was sent, batch by batch and record by record.
func (p *pipelineTest) judge(l *pipeline, h *ledger, acked map[batchID]uint64) error {
	rows, err := p.rows(l)
	if err != nil {
		return err
	}
	records := 0
	for _, id := range h.sent {
		there, ok := l.database.batches[id]
		if !ok || there.first != acked[id] || there.last-there.first+1 != uint64(h.records[id]) {
			return fmt.Errorf("batch %v is at %d-%d in the database, acked at %d: %v", id, there.first, there.last, acked[id], ok)
		}
		for i := range h.records[id] {
			records++
			event := [16]byte(binary.BigEndian.AppendUint64([]byte{0, 0, 0, 0, 0, 0, 0, id.producer}, id.sequence<<16|uint64(i)))
			if got := rows[event]; got != there.first+uint64(i) {
				return fmt.Errorf("record %d of batch %v is at LSN %d in the Parquet files, not %d", i, id, got, there.first+uint64(i))
			}
		}
	}
	if len(l.database.batches) != len(h.sent) || len(rows) != records {
		return fmt.Errorf("%d batches and %d rows are there, %d and %d were sent", len(l.database.batches), len(rows), len(h.sent), records)
	}
	return nil
}

// rows returns the LSN of every event in the Parquet files that the manifest lists, each of which must be there once.
func (p *pipelineTest) rows(l *pipeline) (map[[16]byte]uint64, error) {
	all := map[[16]byte]uint64{}
	for _, file := range l.manifest.State().Files {
		content, err := vfs.ReadFile(l.fs, path.Join(pipelineParquet, file.Path))
		if err != nil {
			return nil, err
		}
		if manifest.Checksum(content) != file.CRC32C {
			return nil, fmt.Errorf("%s is not what the manifest says", file.Path)
		}
		hash := sha256.Sum256(content)
		found, known := p.read.Load(hash)
		if !known {
			found = readEvents(p.t, content)
			p.read.Store(hash, found)
		}
		for event, lsn := range found.(map[[16]byte]uint64) {
			if other, twice := all[event]; twice {
				return nil, fmt.Errorf("event %x is at LSN %d and at %d", event, other, lsn)
			}
			all[event] = lsn
		}
	}
	return all, nil
}

// readEvents reads the columns event_id and lsn of a Parquet file with arrow-go.
func readEvents(t testing.TB, content []byte) map[[16]byte]uint64 {
	table, err := pqarrow.ReadTable(context.Background(), bytes.NewReader(content), nil, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	require.NoError(t, err)
	defer table.Release()
	events := map[[16]byte]uint64{}
	reader := array.NewTableReader(table, -1)
	defer reader.Release()
	rows := 0
	for reader.Next() {
		b := reader.RecordBatch()
		ids := b.Column(0)
		if extension, ok := ids.(array.ExtensionArray); ok {
			ids = extension.Storage()
		}
		lsns := b.Column(int(b.NumCols()) - 1).(*array.Int64)
		for i := range int(b.NumRows()) {
			events[[16]byte(ids.(*array.FixedSizeBinary).Value(i))] = uint64(lsns.Value(i))
			rows++
		}
	}
	require.Len(t, events, rows)
	return events
}

// kill lets the process die. The next one finds what is in the page cache and hands it to the sinks; a power cut after that must not leave a
// sink ahead of the log.
func (p *pipelineTest) kill(m *crashfs.Moment, db *database, h *ledger, seed uint64) error {
	f := m.Kill()
	l, err := openPipeline(f, db)
	if err != nil {
		return fmt.Errorf("the start is refused: %w", err)
	}
	if err := errors.Join(l.flush(), l.abandonAt(func(m *crashfs.Moment) error {
		return p.visit([]*crashfs.Moment{m}, db.clone(), h, seed, 1, "after the replay")
	})); err != nil {
		return err
	}
	return nil
}

// abandonAt calls fn with the present moment and then abandons the server.
func (l *pipeline) abandonAt(fn func(*crashfs.Moment) error) error {
	err := fn(l.fs.Freeze())
	return errors.Join(err, l.abandon())
}

// TestEveryStateOfThePipeline cuts the power before every operation of a whole server.
func TestEveryStateOfThePipeline(t *testing.T) {
	run := crashlevel.Start(t, "pipeline states", "states", "./ingestor/internal/processor")
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	target := int64(crashlevel.Pick(t, 150, 12_000, 1_000_000))
	for n, states := uint64(0), int64(0); states < target; n++ {
		rng := rand.New(rand.NewPCG(run.Seed()+n, 0))
		p := &pipelineTest{t: t, deepBound: crashlevel.Pick(t, 1, 2, 10), deepEvery: 20}
		e := &crashfs.Explorer{Seed: run.Seed() + n}
		fsys, db := crashfs.New(), newDatabase("database")
		require.NoError(t, fsys.MkdirAll("data", 0o755)) // durable before anything is written to it: package datadir sees to that
		require.NoError(t, fsys.SyncDir("."))
		h := &ledger{records: map[batchID]int{}, acked: map[batchID]uint64{}}
		operation, bound := 0, crashlevel.Pick(t, 1, 40, 400)
		fsys.Before(func(op crashfs.Op) error {
			operation++
			m, then, dbThen := fsys.Freeze(), h.clone(), db.clone()
			where := fmt.Sprintf("power cut before operation %d, %s of %s", operation, op.Kind, op.Name)
			e.Moment(m, bound, where, func(f *crashfs.FS, seed uint64) error { return p.recover(f, dbThen.clone(), then, seed, 1) })
			if operation%4 == 0 {
				e.Moment(m, 1, where+", after a kill", func(_ *crashfs.FS, seed uint64) error { return p.kill(m, dbThen.clone(), then, seed) })
			}
			return nil
		})
		live, err := openPipeline(fsys, db)
		require.NoError(t, err)
		for step := range crashlevel.Pick(t, 6, 12, 12) {
			id := batchID{byte(rng.IntN(2)), uint64(step + 1)}
			h.sent = append(h.sent, id)
			h.records[id] = 1 + rng.IntN(20)
			s, err := live.submit(id, h.records[id])
			require.NoError(t, err)
			h.acked[id] = s.FirstLSN
			if step%3 == 2 {
				require.NoError(t, live.flush())
			}
		}
		require.NoError(t, live.abandon())
		explored, complete, err := e.Wait()
		states += explored + p.deeper.Load()
		run.Explored(explored + p.deeper.Load())
		t.Logf("%d states, %d within recoveries; of %d of %d moments all", explored, p.deeper.Load(), complete, operation)
		require.NoError(t, err, "run %d of seed %d", n, run.Seed())
	}
}
