package ingestion

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// nullLog counts records and stores nothing: what is left is the service's own cost.
type nullLog struct{ next wal.LSN }

func (l *nullLog) Append(e wal.Entry) (wal.LSN, error) {
	first := l.next + 1
	l.next += wal.LSN(e.Records)
	return first, nil
}
func (l *nullLog) Sync() error         { return nil }
func (l *nullLog) MarkDurable() error  { return nil }
func (l *nullLog) DurableLSN() wal.LSN { return l.next }

// nullGenerations gives the memory back at once.
type nullGenerations struct{}

func (nullGenerations) Accept(g *memtable.Generation) { g.Release() }

const (
	benchBatchBytes   = 145_000
	benchBatchRecords = 1000
)

// BenchmarkSubmit keeps a number of batches in flight, as streams do. With a real log it measures the disk under TMPDIR.
func BenchmarkSubmit(b *testing.B) {
	for _, inFlight := range []int{1, 24} {
		b.Run(fmt.Sprintf("log=null/in-flight=%d", inFlight), func(b *testing.B) {
			benchmarkSubmit(b, &nullLog{}, inFlight)
		})
		b.Run(fmt.Sprintf("log=real/in-flight=%d", inFlight), func(b *testing.B) {
			log, err := wal.Open(context.Background(), wal.Options{Dir: b.TempDir(), MaxGroupBytes: 8 << 20})
			require.NoError(b, err)
			defer func() { require.NoError(b, log.Close()) }()
			benchmarkSubmit(b, log, inFlight)
		})
	}
}

func benchmarkSubmit(b *testing.B, log Log, inFlight int) {
	memory := slab.New(512<<20, nil)
	bus := events.NewBus()
	defer bus.Close()
	stages := telemetry.NewStages()
	service, err := New(DefaultConfig(), Dependencies{
		Log: log, Dedupe: dedupe.New(100), Memory: memory, Generations: nullGenerations{}, Events: bus,
		Stages: stages, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(b, err)
	defer func() { require.NoError(b, service.Close()) }()

	free := make(chan *Submission, inFlight)
	done := func(s *Submission) { free <- s }
	for range inFlight {
		free <- &Submission{}
	}
	ctx := context.Background()
	endpoint := []byte("orders")
	b.SetBytes(benchBatchBytes)
	b.ReportAllocs()
	sequence := uint64(0)
	for b.Loop() {
		s := <-free
		if s.Err != nil {
			b.Fatal(s.Err)
		}
		buf, err := memory.Get(ctx, benchBatchBytes)
		if err != nil {
			b.Fatal(err)
		}
		sequence++
		*s = Submission{
			Tenant: "acme", Endpoint: endpoint, Buf: buf, Raw: buf.Bytes(), Records: benchBatchRecords, Level: WALSynced,
			HasProducer: true, Producer: dedupe.ProducerID{1}, Epoch: 1, Sequence: sequence,
			Block: true, ReceivedAt: time.Now(), Done: done,
		}
		if err := service.Submit(ctx, s); err != nil {
			b.Fatal(err)
		}
	}
	for range inFlight {
		<-free
	}
	report, err := stages.Report()
	require.NoError(b, err)
	b.ReportMetric(float64(report["commit"].P50Nanos), "commit-p50-ns")
	b.ReportMetric(float64(report["commit"].P99Nanos), "commit-p99-ns")
	b.ReportMetric(float64(b.N)*benchBatchRecords/b.Elapsed().Seconds(), "records/s")
}
