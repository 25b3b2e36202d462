package processor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// batchID identifies a batch whatever its place in the log.
type batchID struct {
	producer byte
	sequence uint64
}

// stored is what a sink holds of a batch.
type stored struct {
	first, last      uint64
	tenant, endpoint string
}

// database is the durable state of a fake sink: it survives the server.
type database struct {
	name    string
	flushed uint64
	batches map[batchID]stored
}

func newDatabase(name string) *database { return &database{name: name, batches: map[batchID]stored{}} }

func (d *database) clone() *database {
	return &database{name: d.name, flushed: d.flushed, batches: maps.Clone(d.batches)}
}

var errDown = errors.New("the database is down")

// fakeSink stores into a database. Its hooks, where set, run before and after the transaction and can fail it.
type fakeSink struct {
	lock          sync.Locker // held during the transaction
	database      *database
	before, after func() error
	asked         func() error
}

func (s *fakeSink) Name() string { return s.database.name }

func call(hook func() error) error {
	if hook == nil {
		return nil
	}
	return hook()
}

func (s *fakeSink) Flushed(context.Context) (uint64, error) {
	if err := call(s.asked); err != nil {
		return 0, err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.database.flushed, nil
}

func (s *fakeSink) Flush(_ context.Context, g *memtable.Generation, previous uint64) error {
	if err := call(s.before); err != nil {
		return err
	}
	if err := s.transaction(g, previous); err != nil {
		return err
	}
	return call(s.after)
}

// transaction judges what it is given as strictly as it can: a batch twice, a gap or foreign content is an error that
// ends the test.
func (s *fakeSink) transaction(g *memtable.Generation, previous uint64) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.database.flushed != previous {
		return fmt.Errorf("checkpoint at %d, not at %d", s.database.flushed, previous)
	}
	if g.First != previous+1 {
		return fatalf("generation %d-%d after checkpoint %d", g.First, g.Last, previous)
	}
	records := uint64(0)
	for _, table := range g.Tables {
		for _, b := range table.Batches {
			var h batch.Header
			if refused := batch.Validate(b.Raw, table.Tenant, batch.Limits{}, &h); refused != nil {
				return fatalf("batch at %d: %w", b.First, refused)
			}
			id := batchID{h.Producer[0], h.Sequence}
			if there, twice := s.database.batches[id]; twice {
				return fatalf("%s: batch %v at LSN %d was stored before at %d", s.database.name, id, b.First, there.first)
			}
			if b.First < g.First || b.Last > g.Last || uint32(b.Records()) != h.Records || string(h.Endpoint) != table.Endpoint {
				return fatalf("batch %v at %d-%d of %s in generation %d-%d", id, b.First, b.Last, table.Endpoint, g.First, g.Last)
			}
			s.database.batches[id] = stored{b.First, b.Last, table.Tenant, table.Endpoint}
			records += uint64(h.Records)
		}
	}
	if records != g.Records() {
		return fatalf("generation %d-%d has %d records", g.First, g.Last, records)
	}
	s.database.flushed = g.Last
	return nil
}

// world is one life of a server, from log to sinks, on a file system in memory.
type world struct {
	fs        *crashfs.FS
	log       *wal.WAL
	manifest  *manifest.Manifest
	bus       *events.Bus
	memory    *slab.Pool
	processor *Processor
	service   *ingestion.Service
	fatal     chan error
	running   context.Context // until a fatal error
	stop      context.CancelFunc
	registry  *prometheus.Registry
}

type settings struct {
	processor Config
	ingestion ingestion.Config
	memory    int64
}

func testSettings() settings {
	s := settings{processor: DefaultConfig(), ingestion: ingestion.DefaultConfig(), memory: 1 << 20}
	s.processor.MemoryBytes, s.processor.ReplayBytes, s.processor.ReplayRecords = 256<<10, 32<<10, 1000
	s.processor.RetryMin, s.processor.RetryMax = time.Millisecond, 4*time.Millisecond
	s.processor.CheckpointInterval = time.Millisecond
	s.processor.MaxProducers = 100
	s.ingestion.Generation = memtable.Limits{GenerationBytes: 16 << 10, GenerationRecords: 200, GenerationAge: time.Hour}
	s.ingestion.IdleAfter = time.Hour
	return s
}

// open starts a server. After an error nothing is left running.
func open(fsys *crashfs.FS, set settings, sinks ...Sink) (_ *world, err error) {
	w := &world{
		fs: fsys, bus: events.NewBus(), memory: slab.New(set.memory, nil), fatal: make(chan error, 2),
		registry: prometheus.NewPedanticRegistry(),
	}
	w.running, w.stop = context.WithCancel(context.Background())
	onFatal := func(err error) {
		w.fatal <- err
		w.stop()
	}
	defer func() {
		if err != nil {
			_ = w.close()
		}
	}()
	logger := slog.New(slog.DiscardHandler)
	if w.manifest, err = manifest.Open(fsys, "manifest", manifest.Options{Logger: logger}); err != nil {
		return nil, err
	}
	rebuild, err := NewRebuild(w.manifest, set.processor.MaxProducers)
	if err != nil {
		return nil, err
	}
	w.log, err = wal.Open(context.Background(), wal.Options{
		Dir: "wal", FS: fsys, SegmentSizeBytes: 64 << 10, SpareSegments: 1, MaxGroupBytes: 32 << 10, DirectIO: wal.DirectOff,
		FirstLSN: w.manifest.State().LowWatermark + 1, OnFrame: rebuild.Frame,
	})
	if err != nil {
		return nil, err
	}
	w.processor, err = New(set.processor, Dependencies{
		Log: w.log, Manifest: w.manifest, Sinks: sinks, Events: w.bus, Logger: logger, Registerer: w.registry,
		OnFatal: onFatal,
	})
	if err != nil {
		return nil, err
	}
	recovered, err := w.processor.Recover(context.Background(), rebuild)
	if err != nil {
		return nil, err
	}
	w.service, err = ingestion.New(set.ingestion, ingestion.Dependencies{
		Log: w.log, Dedupe: recovered.Dedupe, CommittedLSN: recovered.CommittedLSN, Memory: w.memory,
		Generations: w.processor, Events: w.bus, Stages: telemetry.NewStages(), Logger: logger, Registerer: w.registry,
		OnFatal: onFatal,
	})
	if err != nil {
		return nil, err
	}
	return w, w.processor.Start()
}

// close stops the server where it is.
func (w *world) close() error {
	defer w.stop()
	var errs []error
	if w.service != nil {
		errs = append(errs, w.service.Drain(context.Background()))
	}
	if w.processor != nil {
		errs = append(errs, w.processor.Close())
	}
	if w.service != nil {
		errs = append(errs, w.service.Close())
	}
	w.bus.Close()
	if w.log != nil {
		errs = append(errs, w.log.Close())
	}
	if w.manifest != nil {
		errs = append(errs, w.manifest.Close())
	}
	if used := w.memory.UsedBytes(); used != 0 {
		errs = append(errs, fmt.Errorf("%d bytes of memory were not released", used))
	}
	return errors.Join(errs...)
}

// drain stops the server in good order: everything accepted is in the sinks.
func (w *world) drain(t testing.TB) {
	t.Helper()
	require.NoError(t, w.service.Drain(context.Background()))
	err := w.processor.Drain(w.running)
	require.Empty(t, w.fatal)
	require.NoError(t, err)
	require.NoError(t, w.close())
}

// encode returns a WriteBatchRequest that says who it is.
func encode(id batchID, epoch uint32, records int) []byte {
	request := &storagepb.WriteBatchRequest{
		EndpointId: fmt.Sprintf("endpoint-%d", id.sequence%3),
		ProducerId: make([]byte, 16), ProducerEpoch: epoch, Sequence: id.sequence,
	}
	request.ProducerId[0] = id.producer
	for i := range records {
		event := binary.BigEndian.AppendUint64([]byte{0, 0, 0, 0, 0, 0, 0, id.producer}, id.sequence<<16|uint64(i))
		request.Records = append(request.Records, &storagepb.DataRecord{
			EventId: event, TimestampUnixNano: 1_700_000_000_000_000_000 + int64(i), Payload: make([]byte, 40),
		})
	}
	raw, err := proto.Marshal(request)
	if err != nil {
		panic(err)
	}
	return raw
}

// send submits a batch; done is called with its outcome. An error says that the server took nothing.
func (w *world) send(raw []byte, level ingestion.AckLevel, done func(*ingestion.Submission)) error {
	var h batch.Header
	if refused := batch.Validate(raw, "acme", batch.Limits{}, &h); refused != nil {
		return refused
	}
	submission := &ingestion.Submission{
		Tenant: "acme", Endpoint: h.Endpoint, Records: h.Records,
		MinTimeUnixNano: h.MinTimeUnixNano, MaxTimeUnixNano: h.MaxTimeUnixNano,
		HasProducer: h.HasProducer, Producer: h.Producer, Epoch: h.Epoch, Sequence: h.Sequence,
		Level: level, Block: true, ReceivedAt: time.Now(), CheckedAt: time.Now(), Done: done,
	}
	if err := w.service.Admit(w.running, submission, len(raw)); err != nil {
		return err
	}
	buf, err := w.memory.Get(w.running, len(raw))
	if err != nil {
		w.service.Withdraw(submission)
		return err
	}
	copy(buf.Bytes(), raw)
	submission.Buf, submission.Raw = buf, buf.Bytes()
	if err := w.service.Submit(submission); err != nil {
		buf.Release()
		return err
	}
	return nil
}

// commit sends and waits.
func (w *world) commit(t testing.TB, raw []byte, level ingestion.AckLevel) *ingestion.Submission {
	t.Helper()
	done := make(chan *ingestion.Submission, 1)
	require.NoError(t, w.send(raw, level, func(s *ingestion.Submission) { done <- s }))
	s := <-done
	require.Nil(t, s.Err)
	return s
}

// settle seals and waits until all sinks have everything.
func (w *world) settle(t testing.TB) {
	t.Helper()
	require.NoError(t, w.service.Seal(context.Background()))
	require.NoError(t, w.processor.Flush(w.running))
}
