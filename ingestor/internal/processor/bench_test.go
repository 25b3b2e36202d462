package processor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

const (
	benchRecords      = 1000
	benchPayloadBytes = 110
	benchLogBytes     = 512 << 20
	benchGroupBytes   = 8 << 20
)

// benchDir is a new directory on the disk under TMPDIR.
func benchDir(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	var fs unix.Statfs_t
	require.NoError(b, unix.Statfs(dir, &fs))
	if fs.Type == unix.TMPFS_MAGIC {
		b.Skip("the temporary directory is on tmpfs: set TMPDIR to a directory on a disk")
	}
	return dir
}

// benchRequest is a batch of about 145 bytes a record.
func benchRequest() *storagepb.WriteBatchRequest {
	request := &storagepb.WriteBatchRequest{EndpointId: "orders", ProducerId: make([]byte, 16), ProducerEpoch: 1}
	for i := range benchRecords {
		event := binary.BigEndian.AppendUint64(make([]byte, 8), uint64(i))
		request.Records = append(request.Records, &storagepb.DataRecord{
			EventId: event, TimestampUnixNano: 1_700_000_000_000_000_000 + int64(i), Version: 1, Payload: make([]byte, benchPayloadBytes),
		})
	}
	return request
}

// discardSink stores nothing and is always where the log ends.
type discardSink struct{ flushed uint64 }

func (*discardSink) Name() string                              { return "discard" }
func (s *discardSink) Flushed(context.Context) (uint64, error) { return s.flushed, nil }
func (s *discardSink) Flush(_ context.Context, g *memtable.Generation, _ uint64) error {
	s.flushed = g.Last
	return nil
}

// BenchmarkRecovery measures a start with a log of 512 MiB of which nothing has been flushed. Each operation reads the files, opens
// the log and recovers (which is what a server does before it is ready), and reads everything back as a sink's worker does afterwards;
// the ratios are those to reading the files. With direct I/O all of them go past the page cache, without it the page cache holds the
// files. B/op is the sum of what all three allocate.
func BenchmarkRecovery(b *testing.B) {
	for name, mode := range map[string]wal.DirectIO{"direct": wal.DirectOn, "cached": wal.DirectOff} {
		b.Run(name, func(b *testing.B) { benchmarkRecovery(b, mode) })
	}
}

func benchmarkRecovery(b *testing.B, mode wal.DirectIO) {
	dir := benchDir(b)
	options := wal.Options{Dir: filepath.Join(dir, "wal"), MaxGroupBytes: benchGroupBytes, SpareSegments: -1, DirectIO: mode}
	size := fillLog(b, options)
	files, err := filepath.Glob(filepath.Join(options.Dir, "*.wal"))
	require.NoError(b, err)
	flag := 0
	if mode == wal.DirectOn {
		flag = vfs.Direct
	}
	_, err = timed(func() error { return readFiles(files, flag) }) // into the page cache
	require.NoError(b, err)
	var read, ready, replayed time.Duration
	add := func(sum *time.Duration, f func() error) {
		took, err := timed(f)
		require.NoError(b, err)
		*sum += took
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		add(&read, func() error { return readFiles(files, flag) })
		var log *wal.WAL
		add(&ready, func() (err error) {
			log, err = openAndRecover(b, options)
			return err
		})
		add(&replayed, func() error { return readBack(log) })
		require.NoError(b, log.Close())
	}
	rate := func(d time.Duration) float64 { return float64(size) * float64(b.N) / d.Seconds() / 1e9 }
	b.ReportMetric(rate(read), "read-GB/s")
	b.ReportMetric(rate(ready), "ready-GB/s")
	b.ReportMetric(rate(replayed), "replay-GB/s")
	b.ReportMetric(rate(ready)/rate(read), "ready/read")
	b.ReportMetric(rate(replayed)/rate(read), "replay/read")
}

func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

// fillLog writes a log and returns the size of its files.
func fillLog(b *testing.B, options wal.Options) int64 {
	log, err := wal.Open(context.Background(), options)
	require.NoError(b, err)
	request, envelope := benchRequest(), batch.AppendEnvelope(nil, "acme", 1)
	var raw []byte
	for log.SizeBytes() < benchLogBytes {
		request.Sequence++
		raw, err = proto.MarshalOptions{}.MarshalAppend(raw[:0], request)
		require.NoError(b, err)
		entry := wal.Entry{Records: benchRecords, Parts: [2][]byte{envelope, raw}}
		_, err := log.Append(entry)
		if errors.Is(err, wal.ErrGroupFull) {
			require.NoError(b, log.Sync())
			_, err = log.Append(entry)
		}
		require.NoError(b, err)
	}
	require.NoError(b, log.Sync())
	size := log.SizeBytes()
	require.NoError(b, log.Close())
	return size
}

// readFiles reads files from end to end; flag may be vfs.Direct.
func readFiles(paths []string, flag int) error {
	buffer := vfs.AlignedBuffer(1 << 20)
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDONLY|flag, 0)
		if err != nil {
			return err
		}
		for err == nil {
			_, err = f.Read(buffer)
		}
		if err := f.Close(); err != nil {
			return err
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// openAndRecover opens a log and recovers a processor that has flushed nothing.
func openAndRecover(b *testing.B, options wal.Options) (*wal.WAL, error) {
	m, err := manifest.Open(vfs.OS, filepath.Join(b.TempDir(), "manifest"), manifest.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	rebuild, err := NewRebuild(m, DefaultConfig().MaxProducers)
	if err != nil {
		return nil, err
	}
	options.OnFrame = rebuild.Frame
	log, err := wal.Open(context.Background(), options)
	if err != nil {
		return nil, err
	}
	p, err := newBenchProcessor(m, log, events.NewBus())
	if err != nil {
		return nil, err
	}
	recovered, err := p.Recover(context.Background(), rebuild)
	if err == nil && recovered.EndLSN != log.DurableLSN() {
		err = fmt.Errorf("recovered up to %d of %d", recovered.EndLSN, log.DurableLSN())
	}
	return log, err
}

func newBenchProcessor(m *manifest.Manifest, log *wal.WAL, bus *events.Bus) (*Processor, error) {
	return New(DefaultConfig(), Dependencies{
		Log: log, Manifest: m, Sinks: []Sink{&discardSink{}}, Events: bus, Logger: slog.New(slog.DiscardHandler),
		OnFatal: func(err error) { panic(err) },
	})
}

// readBack reads the whole log in pieces, as a worker with the default bounds does.
func readBack(log *wal.WAL) error {
	config := DefaultConfig()
	r := replayer{log: log, pool: slab.New(config.ReplayBytes, nil), maxRecords: config.ReplayRecords}
	for first := uint64(1); first <= log.DurableLSN(); {
		g, err := r.read(context.Background(), first, log.DurableLSN())
		if err != nil {
			return err
		}
		first = g.Last + 1
		g.Release()
	}
	return nil
}

// BenchmarkBatch is the whole way of a batch of 1,000 records through the server without gRPC: a buffer, Validate, the commit queue,
// the log on the disk under TMPDIR, the memtable, the acknowledgement, and later the generation's way to a sink that stores
// nothing. An operation is a batch: allocs/op is what a batch costs, whatever the number of its records.
func BenchmarkBatch(b *testing.B) {
	for _, inFlight := range []int{1, 24} {
		b.Run(fmt.Sprintf("in-flight=%d", inFlight), func(b *testing.B) { benchmarkBatch(b, inFlight) })
	}
}

func benchmarkBatch(b *testing.B, inFlight int) {
	dir := benchDir(b)
	log, err := wal.Open(b.Context(), wal.Options{Dir: filepath.Join(dir, "wal"), MaxGroupBytes: benchGroupBytes, SpareSegments: 4})
	require.NoError(b, err)
	bus := events.NewBus()
	m, err := manifest.Open(vfs.OS, filepath.Join(dir, "manifest"), manifest.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	p, err := newBenchProcessor(m, log, bus)
	require.NoError(b, err)
	rebuild, err := NewRebuild(m, DefaultConfig().MaxProducers)
	require.NoError(b, err)
	_, err = p.Recover(b.Context(), rebuild)
	require.NoError(b, err)
	memory := slab.New(1<<30, nil)
	service, err := ingestion.New(ingestion.DefaultConfig(), ingestion.Dependencies{
		Log: log, Dedupe: dedupe.New(100), Memory: memory, Generations: p, Events: bus, Stages: telemetry.NewStages(),
		Logger: slog.New(slog.DiscardHandler), OnFatal: func(err error) { panic(err) },
	})
	require.NoError(b, err)
	require.NoError(b, p.Start())
	defer func() {
		require.NoError(b, service.Drain(context.Background()))
		require.NoError(b, p.Close())
		require.NoError(b, service.Close())
		bus.Close()
		require.NoError(b, log.Close())
		require.NoError(b, m.Close())
	}()

	sequenced := newSequenced(b)
	free := make(chan *ingestion.Submission, inFlight)
	for range inFlight {
		free <- &ingestion.Submission{}
	}
	done := func(s *ingestion.Submission) { free <- s }
	b.SetBytes(int64(len(sequenced.raw)))
	b.ReportAllocs()
	for b.Loop() {
		s := <-free
		if s.Err != nil {
			b.Fatal(s.Err)
		}
		if err := submitBatch(b.Context(), service, memory, s, sequenced.next(), done); err != nil {
			b.Fatal(err)
		}
	}
	for range inFlight {
		<-free
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchRecords), "ns/record")
	b.ReportMetric(float64(b.N)*benchRecords/b.Elapsed().Seconds(), "records/s")
}

// sequenced is an encoded request whose sequence can be changed in place.
type sequenced struct {
	raw    []byte
	number []byte // the sequence, a varint of a fixed length within raw
	value  uint64
}

func newSequenced(b *testing.B) *sequenced {
	const first = 1 << 28 // five bytes as a varint, as all that follow
	request := benchRequest()
	request.Sequence = first
	raw, err := proto.Marshal(request)
	require.NoError(b, err)
	at := len(raw)
	for ; at > 0; at-- { // field 6, varint
		if value, n := binary.Uvarint(raw[at:]); n == 5 && value == first && raw[at-1] == 6<<3 {
			break
		}
	}
	require.Positive(b, at)
	return &sequenced{raw: raw, number: raw[at:][:5], value: first}
}

func (s *sequenced) next() []byte {
	s.value++
	binary.PutUvarint(s.number, s.value)
	return s.raw
}

// submitBatch does what the handler of a stream does with a message.
func submitBatch(
	ctx context.Context, service *ingestion.Service, memory *slab.Pool, s *ingestion.Submission, message []byte, done func(*ingestion.Submission),
) error {
	*s = ingestion.Submission{Tenant: "acme", Level: ingestion.WALSynced, Block: true, ReceivedAt: time.Now(), CheckedAt: time.Now(), Done: done}
	if err := service.Admit(ctx, s, len(message)); err != nil {
		return err
	}
	buf, err := memory.Get(ctx, len(message))
	if err != nil {
		return err
	}
	raw := buf.Bytes()
	copy(raw, message)
	var h batch.Header
	if refused := batch.Validate(raw, s.Tenant, batch.Limits{}, &h); refused != nil {
		return refused
	}
	s.Buf, s.Raw, s.Endpoint, s.Records = buf, raw, h.Endpoint, h.Records
	s.MinTimeUnixNano, s.MaxTimeUnixNano = h.MinTimeUnixNano, h.MaxTimeUnixNano
	s.HasProducer, s.Producer, s.Epoch, s.Sequence = h.HasProducer, h.Producer, h.Epoch, h.Sequence
	return service.Submit(s)
}
