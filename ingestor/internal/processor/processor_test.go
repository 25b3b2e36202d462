package processor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

func newSink(name string) *fakeSink {
	return &fakeSink{lock: &sync.Mutex{}, database: newDatabase(name)}
}

func mustOpen(t *testing.T, fsys *crashfs.FS, set settings, sinks ...Sink) *world {
	t.Helper()
	w, err := open(fsys, set, sinks...)
	require.NoError(t, err)
	return w
}

// ingest commits batches of 10 records with the sequences from first to last of producer 1.
func (w *world) ingest(t *testing.T, first, last uint64) {
	t.Helper()
	for sequence := first; sequence <= last; sequence++ {
		w.commit(t, encode(batchID{1, sequence}, 1, 10), ingestion.WALSynced)
	}
}

// waitForSink returns when the i-th sink has flushed up to lsn.
func (w *world) waitForSink(t *testing.T, i int, lsn uint64) {
	t.Helper()
	flushed := func() bool { return w.processor.Health()[i].FlushedLSN == lsn }
	require.Eventually(t, flushed, 20*time.Second, time.Millisecond)
}

func requireSequences(t *testing.T, s *fakeSink, last uint64) {
	t.Helper()
	require.Len(t, s.database.batches, int(last))
	for sequence := uint64(1); sequence <= last; sequence++ {
		require.Equal(t, (sequence-1)*10+1, s.database.batches[batchID{1, sequence}].first)
	}
}

func TestDeadSinkCostsNoMemoryAndCatchesUp(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	healthy, dead := newSink("healthy"), newSink("dead")
	dead.before = func() error {
		if down.Load() {
			return errDown
		}
		return nil
	}
	set := testSettings()
	set.processor.MemoryBytes = 64 << 10
	set.memory = 128 << 10 // far below what is ingested: without dropping, this test would hang
	w := mustOpen(t, crashfs.New(), set, healthy, dead)
	const batches = 500
	w.ingest(t, 1, batches)
	require.NoError(t, w.service.Seal(context.Background()))
	w.waitForSink(t, 0, batches*10)
	for _, h := range w.processor.Health() {
		require.Equal(t, w.log.DurableLSN(), h.FlushedLSN+h.PendingRecords, "conservation, as LSNs count records")
	}
	h := w.processor.Health()[1]
	require.Equal(t, uint64(batches*10), h.PendingRecords)
	require.ErrorIs(t, h.LastError, errDown)
	require.False(t, h.FailingSince.IsZero())
	_, dropped := w.processor.backlog.held()
	require.NotZero(t, dropped)
	require.Equal(t, uint64(1), w.log.FirstLSN(), "the log keeps what the dead sink needs")

	down.Store(false)
	w.settle(t)
	h = w.processor.Health()[1]
	require.Zero(t, h.PendingRecords)
	require.NoError(t, h.LastError)
	requireSequences(t, healthy, batches)
	requireSequences(t, dead, batches)
	require.Eventually(t, func() bool { return w.log.FirstLSN() > 1 }, 20*time.Second, time.Millisecond, "the log is cut")
	w.drain(t)
}

func TestRestartKeepsWhatTheDeadSinkMissed(t *testing.T) {
	fsys := crashfs.New()
	healthy, dead := newSink("healthy"), newSink("dead")
	dead.before = func() error { return errDown }
	dead.asked = dead.before
	w := mustOpen(t, fsys, testSettings(), healthy, dead)
	w.ingest(t, 1, 100)
	require.NoError(t, w.service.Drain(context.Background()))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, w.processor.Drain(ctx), context.DeadlineExceeded, "what a dead sink does not take stays in the log")
	require.NoError(t, w.close())

	w = mustOpen(t, fsys, testSettings(), healthy, dead) // it is still down
	w.ingest(t, 101, 150)
	require.NoError(t, w.close())

	dead.before, dead.asked = nil, nil
	w = mustOpen(t, fsys, testSettings(), healthy, dead)
	w.drain(t)
	requireSequences(t, healthy, 150)
	requireSequences(t, dead, 150)
}

func TestCommittedIsAnsweredAfterTheSlowestSink(t *testing.T) {
	gate := make(chan struct{})
	fast, slow := newSink("fast"), newSink("slow")
	slow.before = func() error { <-gate; return nil }
	w := mustOpen(t, crashfs.New(), testSettings(), fast, slow)
	done := make(chan *ingestion.Submission, 1)
	answer := func(s *ingestion.Submission) { done <- s }
	require.NoError(t, w.send(encode(batchID{1, 1}, 1, 10), ingestion.Committed, answer))
	require.NoError(t, w.service.Seal(context.Background()))
	w.waitForSink(t, 0, 10)
	require.Empty(t, done)
	close(gate)
	s := <-done
	require.Nil(t, s.Err)
	require.Contains(t, slow.database.batches, batchID{1, 1})
	w.drain(t)
}

// The snapshot, not the log, knows these batches: the log below them has been cut.
func TestResentBatchIsKnownAfterTheLogWasCut(t *testing.T) {
	fsys := crashfs.New()
	sink := newSink("sink")
	w := mustOpen(t, fsys, testSettings(), sink)
	const batches = 300
	w.ingest(t, 1, batches)
	w.drain(t)

	w = mustOpen(t, fsys, testSettings(), sink)
	require.Greater(t, w.log.FirstLSN(), uint64((batches-128)*10), "this test needs a cut log")
	for sequence := uint64(batches - 127); sequence <= batches; sequence++ {
		s := w.commit(t, encode(batchID{1, sequence}, 1, 10), ingestion.WALSynced)
		require.True(t, s.Duplicate)
		require.Equal(t, (sequence-1)*10+1, s.FirstLSN)
	}
	refused := func(raw []byte) *refusal.Error {
		done := make(chan *ingestion.Submission, 1)
		require.NoError(t, w.send(raw, ingestion.WALSynced, func(s *ingestion.Submission) { done <- s }))
		return (<-done).Err
	}
	require.Equal(t, refusal.SequenceOutOfOrder, refused(encode(batchID{1, 1}, 1, 10)).Code)
	require.Equal(t, refusal.ProducerFenced, refused(encode(batchID{1, batches + 1}, 0, 10)).Code)
	w.ingest(t, batches+1, batches+5)
	w.drain(t)
	requireSequences(t, sink, batches+5)
}

// The answer of a commit that happened is lost, and the generation has another shape when the sink is asked again.
func TestLostAnswerOfASinkIsNoSecondFlush(t *testing.T) {
	sink := newSink("sink")
	calls := 0
	sink.after = func() error {
		if calls++; calls%2 == 1 {
			return errors.New("connection lost after the commit")
		}
		return nil
	}
	w := mustOpen(t, crashfs.New(), testSettings(), sink)
	w.ingest(t, 1, 100)
	w.drain(t)
	requireSequences(t, sink, 100)
	require.Greater(t, calls, 2)
}

func TestSinkMayCheckpointWithinAGeneration(t *testing.T) {
	sink := newSink("sink")
	partial := &partialSink{fakeSink: sink}
	w := mustOpen(t, crashfs.New(), testSettings(), partial)
	w.ingest(t, 1, 100)
	w.drain(t)
	requireSequences(t, sink, 100)
}

// partialSink stores the batches of a generation one by one, each with its checkpoint, and fails after the third.
type partialSink struct{ *fakeSink }

func (s *partialSink) Flush(ctx context.Context, g *memtable.Generation, previous uint64) error {
	for n := 0; previous < g.Last; n++ {
		if n == 3 {
			return errDown
		}
		part, err := g.Above(previous)
		if err != nil {
			return err
		}
		// Of what is left, the first batch in log order.
		var first memtable.Batch
		var owner *memtable.Table
		for _, table := range part.Tables {
			for _, b := range table.Batches {
				if b.First == part.First {
					first, owner = b, table
				}
			}
		}
		one := &memtable.Generation{First: first.First, Last: first.Last, Tables: []*memtable.Table{
			{Tenant: owner.Tenant, Endpoint: owner.Endpoint, Batches: []memtable.Batch{first}},
		}}
		err = s.fakeSink.Flush(ctx, one, previous)
		part.Release()
		if err != nil {
			return err
		}
		previous = first.Last
	}
	return nil
}

func TestRecoverRefusesWhatDoesNotFitTogether(t *testing.T) {
	prepare := func(t *testing.T) (*crashfs.FS, *fakeSink) {
		fsys := crashfs.New()
		sink := newSink("sink")
		w := mustOpen(t, fsys, testSettings(), sink)
		w.ingest(t, 1, 200)
		w.drain(t)
		return fsys, sink
	}
	t.Run("sink ahead of the log", func(t *testing.T) {
		fsys, sink := prepare(t)
		sink.database.flushed += 10
		_, err := open(fsys, testSettings(), sink)
		require.ErrorContains(t, err, "do not belong together")
	})
	t.Run("sink that lost data", func(t *testing.T) {
		fsys, sink := prepare(t)
		sink.database.flushed -= 10
		_, err := open(fsys, testSettings(), sink)
		require.ErrorContains(t, err, "the sink has lost data")
	})
	t.Run("new sink and a log that was cut", func(t *testing.T) {
		fsys, sink := prepare(t)
		_, err := open(fsys, testSettings(), sink, newSink("new"))
		require.ErrorContains(t, err, "sink new: its checkpoint does not fit the log: it has everything up to LSN 0")
	})
	t.Run("log without its manifest", func(t *testing.T) {
		fsys, sink := prepare(t)
		names, err := fsys.List("manifest")
		require.NoError(t, err)
		for _, name := range names {
			require.NoError(t, fsys.Remove("manifest/"+name))
		}
		_, err = open(fsys, testSettings(), sink)
		require.Error(t, err)
	})
	t.Run("manifest without its log", func(t *testing.T) {
		fsys, sink := prepare(t)
		names, err := fsys.List("wal")
		require.NoError(t, err)
		for _, name := range names {
			require.NoError(t, fsys.Remove("wal/"+name))
		}
		sink.database.flushed += 10
		_, err = open(fsys, testSettings(), sink)
		require.Error(t, err)
	})
}

func TestSinkThatAnswersLateIsHeldToItsWord(t *testing.T) {
	fsys := crashfs.New()
	sink := newSink("sink")
	w := mustOpen(t, fsys, testSettings(), sink)
	w.ingest(t, 1, 10)
	w.drain(t)
	sink.database.flushed -= 10 // a database restored from a backup
	var up atomic.Bool
	sink.asked = func() error {
		if up.Load() {
			return nil
		}
		return errDown
	}
	w = mustOpen(t, fsys, testSettings(), sink)
	up.Store(true)
	require.ErrorContains(t, <-w.fatal, "the sink has lost data")
	require.NoError(t, w.close())
}

func TestFatalErrorOfASinkStopsTheServer(t *testing.T) {
	sink := newSink("sink")
	sink.before = func() error { return fmt.Errorf("wrapped: %w", fatalf("fenced off")) }
	w := mustOpen(t, crashfs.New(), testSettings(), sink)
	w.ingest(t, 1, 1)
	require.NoError(t, w.service.Seal(context.Background()))
	require.ErrorContains(t, <-w.fatal, "fenced off")
	require.NoError(t, w.close())
}

func TestCheckpointWaitsForSpace(t *testing.T) {
	fsys := crashfs.New()
	w := mustOpen(t, fsys, testSettings(), newSink("sink"))
	w.ingest(t, 1, 10)
	fsys.SetCapacity(1)
	w.settle(t)
	require.Eventually(t, func() bool {
		families, err := w.registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "ingestor_checkpoint_failures_total" {
				return f.GetMetric()[0].GetCounter().GetValue() > 0
			}
		}
		return false
	}, 20*time.Second, time.Millisecond)
	require.Zero(t, w.manifest.State().LowWatermark)
	fsys.SetCapacity(0)
	require.Eventually(t, func() bool { return w.manifest.State().LowWatermark == 100 }, 20*time.Second, time.Millisecond)
	w.drain(t)
}

func TestConfigIsValidated(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for _, spoil := range []func(*Config){
		func(c *Config) { c.MemoryBytes = -1 },
		func(c *Config) { c.ReplayBytes = 0 },
		func(c *Config) { c.FlushTimeout = 0 },
		func(c *Config) { c.RetryMax = c.RetryMin - 1 },
		func(c *Config) { c.MaxProducers = 0 },
	} {
		c := DefaultConfig()
		spoil(&c)
		require.Error(t, c.Validate())
	}
	_, err := New(DefaultConfig(), Dependencies{})
	require.ErrorContains(t, err, "at least one sink")
	_, err = New(DefaultConfig(), Dependencies{Sinks: []Sink{newSink("a"), newSink("a")}})
	require.ErrorContains(t, err, "two sinks")
}
