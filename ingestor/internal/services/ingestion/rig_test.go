package ingestion

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a service on a real log in a file system in memory, whose syncs can be held back and failed.
type rig struct {
	*Service
	t       testing.TB
	fs      *crashfs.FS
	log     *wal.WAL
	memory  *slab.Pool
	bus     *events.Bus
	fatal   chan error
	sealed  *collected
	entered chan struct{} // one value for each sync that was held back
	resume  chan error    // what the held sync is to return
}

// collected keeps what is sealed.
type collected struct {
	mu          sync.Mutex
	generations []*memtable.Generation
	added       chan struct{}
}

func (c *collected) Accept(g *memtable.Generation) {
	c.mu.Lock()
	c.generations = append(c.generations, g)
	c.mu.Unlock()
	c.added <- struct{}{}
}

func testConfig() Config {
	c := DefaultConfig()
	c.Generation = memtable.Limits{GenerationBytes: 1 << 20, GenerationRecords: 1 << 20, GenerationAge: time.Hour}
	c.IdleAfter = time.Hour
	return c
}

func newRig(t testing.TB, config Config) *rig {
	fsys := crashfs.New()
	log, err := wal.Open(context.Background(), wal.Options{
		Dir: "wal", FS: fsys, SegmentSizeBytes: 128 << 10, SpareSegments: 1, MaxGroupBytes: 64 << 10, DirectIO: wal.DirectOff,
	})
	require.NoError(t, err)
	r := newRigOn(t, config, log)
	r.fs, r.log = fsys, log
	return r
}

// newRigOn is a rig on a log of another kind, which it does not close.
func newRigOn(t testing.TB, config Config, log Log) *rig {
	r := &rig{
		t: t, memory: slab.New(4<<20, nil), bus: events.NewBus(), fatal: make(chan error, 1),
		sealed:  &collected{added: make(chan struct{}, 1000)},
		entered: make(chan struct{}, 1), resume: make(chan error, 1),
	}
	var err error
	r.Service, err = New(config, Dependencies{
		Log: log, Dedupe: dedupe.New(100), Memory: r.memory, Generations: r.sealed, Events: r.bus,
		Stages: telemetry.NewStages(), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewPedanticRegistry(),
		OnFatal: func(err error) { r.fatal <- err },
	})
	require.NoError(t, err)
	t.Cleanup(r.stop)
	return r
}

// heldLog stores nothing. It says when a group has begun, and the test delivers the outcome.
type heldLog struct {
	next, began wal.LSN
	noSpace     bool // for the next group
	begun       chan struct{}
	done        chan error
}

func newHeldLog() *heldLog { return &heldLog{begun: make(chan struct{}, 1), done: make(chan error, 1)} }

func (l *heldLog) Append(e wal.Entry) (wal.LSN, error) {
	first := l.next + 1
	l.next += wal.LSN(e.Records)
	return first, nil
}

func (l *heldLog) Begin() error {
	if l.noSpace {
		l.noSpace, l.next = false, l.began
		return wal.ErrNoSpace
	}
	l.began = l.next
	l.begun <- struct{}{}
	return nil
}

func (l *heldLog) Sync() error {
	l.began = l.next
	return nil
}

func (l *heldLog) Done() <-chan error  { return l.done }
func (l *heldLog) MarkDurable() error  { return nil }
func (l *heldLog) DurableLSN() wal.LSN { return 0 }

// stop ends everything and checks that no buffer was lost on the way.
func (r *rig) stop() {
	require.NoError(r.t, r.Close())
	r.bus.Close()
	if r.log != nil {
		_ = r.log.Close() // fails where the test has poisoned it
	}
	for _, g := range r.sealed.generations {
		g.Release()
	}
	require.Zero(r.t, r.memory.UsedBytes(), "a buffer was not released")
}

// holdSyncs holds the log's next sync back until resume.
func (r *rig) holdSyncs() {
	var once sync.Once
	r.fs.Before(func(op crashfs.Op) error {
		var err error
		if op.Kind == crashfs.Sync {
			once.Do(func() {
				r.entered <- struct{}{}
				err = <-r.resume
			})
		}
		return err
	})
}

// stall makes the committer take nothing more from the queue until resume: one group is held in its sync, and the next one is full.
// REQUIRES: config.GatherBytes is 1.
func (r *rig) stall() (done []<-chan *Submission) {
	r.holdSyncs()
	done = append(done, r.submit(r.submission("plug", 1, WALSynced)))
	<-r.entered
	done = append(done, r.submit(r.submission("filler", 1, WALSynced)))
	for r.queue.state().batches > 0 {
		runtime.Gosched()
	}
	return done
}

// submission returns a batch whose content names it.
func (r *rig) submission(content string, records uint32, level AckLevel) *Submission {
	buf, ok := r.memory.TryGet(len(content))
	require.True(r.t, ok)
	copy(buf.Bytes(), content)
	return &Submission{
		Tenant: "acme", Endpoint: []byte("orders"), Buf: buf, Raw: buf.Bytes(), Records: records, Level: level,
		Block: true, ReceivedAt: time.Now(), CheckedAt: time.Now(),
	}
}

// from gives the submission a producer.
func (s *Submission) from(producer byte, epoch uint32, sequence uint64) *Submission {
	s.HasProducer, s.Producer, s.Epoch, s.Sequence = true, dedupe.ProducerID{producer}, epoch, sequence
	return s
}

// submit returns a channel with the submission once it is done. Done a second time, it blocks the committer for good.
func (r *rig) submit(s *Submission) <-chan *Submission {
	done := make(chan *Submission, 1)
	s.Done = func(s *Submission) { done <- s }
	require.NoError(r.t, r.offer(context.Background(), s))
	return done
}

// offer does what the api does, with the buffer already there.
func (r *rig) offer(ctx context.Context, s *Submission) error {
	if err := r.Admit(ctx, s, len(s.Raw)); err != nil {
		return err
	}
	return r.Submit(s)
}

// commit submits and waits.
func (r *rig) commit(s *Submission) *Submission { return <-r.submit(s) }

// logged returns the content of the log by first LSN.
func (r *rig) logged() map[uint64]string {
	found := map[uint64]string{}
	require.NoError(r.t, r.log.Replay(context.Background(), 0, func(f wal.Frame) error {
		tenant, _, raw, err := batch.ParseEnvelope(f.Payload)
		require.NoError(r.t, err)
		found[f.First] = fmt.Sprintf("%s:%s:%d", tenant, raw, f.Records)
		return nil
	}))
	return found
}

// inMemory returns the content of all sealed generations in the form of logged.
func (r *rig) inMemory() map[uint64]string {
	r.sealed.mu.Lock()
	defer r.sealed.mu.Unlock()
	found := map[uint64]string{}
	next := uint64(1)
	for _, g := range r.sealed.generations {
		require.Equal(r.t, next, g.First, "generations follow each other")
		next = g.Last + 1
		for _, table := range g.Tables {
			for _, b := range table.Batches {
				found[b.First] = fmt.Sprintf("%s:%s:%d", table.Tenant, b.Raw, b.Records())
			}
		}
	}
	return found
}
