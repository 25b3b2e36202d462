package ingestion

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// nullLog counts records and stores nothing: what is left is the service's own cost.
type nullLog struct {
	next wal.LSN
	done chan error
}

func newNullLog() *nullLog { return &nullLog{done: make(chan error, 1)} }

func (l *nullLog) Append(e wal.Entry) (wal.LSN, error) {
	first := l.next + 1
	l.next += wal.LSN(e.Records)
	return first, nil
}
func (l *nullLog) Begin() error        { l.done <- nil; return nil }
func (l *nullLog) Done() <-chan error  { return l.done }
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
			benchmarkSubmit(b, newNullLog(), inFlight)
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
		sequence++
		*s = Submission{
			Tenant: "acme", Endpoint: endpoint, Records: benchBatchRecords, Level: WALSynced,
			HasProducer: true, Producer: dedupe.ProducerID{1}, Epoch: 1, Sequence: sequence,
			Block: true, ReceivedAt: time.Now(), CheckedAt: time.Now(), Done: done,
		}
		if err := service.Admit(ctx, s, benchBatchBytes); err != nil {
			b.Fatal(err)
		}
		buf, err := memory.Get(ctx, benchBatchBytes)
		if err != nil {
			b.Fatal(err)
		}
		s.Buf, s.Raw = buf, buf.Bytes()
		if err := service.Submit(s); err != nil {
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

// firstInFirstOut is what fairQueue has to be compared with: a channel of batches and a semaphore for their bytes.
type firstInFirstOut struct {
	queue    chan *Submission
	bytes    *semaphore.Weighted
	gathered []*Submission
}

func (f *firstInFirstOut) put(ctx context.Context, s *Submission, bytes int) error {
	s.charge = int64(bytes)
	if !f.bytes.TryAcquire(s.charge) {
		if err := f.bytes.Acquire(ctx, s.charge); err != nil {
			return err
		}
	}
	f.queue <- s
	return nil
}

// take waits for a batch and takes all that is queued then. It returns their number.
func (f *firstInFirstOut) take(done func(*Submission)) int {
	f.gathered = append(f.gathered[:0], <-f.queue)
	for more := true; more; {
		select {
		case s := <-f.queue:
			f.gathered = append(f.gathered, s)
		default:
			more = false
		}
	}
	for _, s := range f.gathered {
		f.bytes.Release(s.charge)
	}
	for _, s := range f.gathered {
		done(s)
	}
	return len(f.gathered)
}

// fairly gives fairQueue the same methods.
type fairly struct{ *fairQueue }

func (f fairly) put(ctx context.Context, s *Submission, bytes int) error {
	if err := f.admit(ctx, s, bytes, true); err != nil {
		return err
	}
	return f.push(s)
}

func (f fairly) take(done func(*Submission)) int {
	<-f.ready
	taken, _ := f.gather(DefaultConfig().GatherBytes)
	n := taken.n
	for taken.n > 0 {
		done(taken.pop())
	}
	return n
}

// BenchmarkQueue moves batches from producers, with 8 in flight each, to one committer that has nothing else to do.
func BenchmarkQueue(b *testing.B) {
	type queue interface {
		put(context.Context, *Submission, int) error
		take(done func(*Submission)) int
	}
	config := DefaultConfig()
	for _, producers := range []int{1, 2, 64} {
		for name, tenants := range map[string]int{"fifo": 1, "fair/tenants=1": 1, "fair/tenants=64": 64} {
			b.Run(fmt.Sprintf("%s/producers=%d", name, producers), func(b *testing.B) {
				var q queue = fairly{newFairQueue(config.QueueBytes, config.QueueBatches)}
				if name == "fifo" {
					q = &firstInFirstOut{
						queue: make(chan *Submission, 4096), bytes: semaphore.NewWeighted(config.QueueBytes),
					}
				}
				b.ReportAllocs()
				var group sync.WaitGroup
				for producer := range producers {
					share := (b.N + producer) / producers
					group.Go(func() {
						free := make(chan *Submission, 8)
						for range cap(free) {
							free <- &Submission{Tenant: fmt.Sprint(producer % tenants), Done: func(s *Submission) { free <- s }}
						}
						for range share {
							if err := q.put(b.Context(), <-free, 150); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for n := 0; n < b.N; {
					n += q.take(func(s *Submission) { s.Done(s) })
				}
				group.Wait()
			})
		}
	}
}
