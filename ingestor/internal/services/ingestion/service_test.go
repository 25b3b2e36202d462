package ingestion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

func TestEveryAckedBatchIsInTheLogAndInMemoryOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	config := testConfig()
	config.QueueBatches, config.Generation.GenerationRecords = 8, 300
	r := newRig(t, config)
	var mu sync.Mutex
	acked := map[uint64]string{}
	var group sync.WaitGroup
	for client := range 6 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(client)))
			var pending []<-chan *Submission
			var contents []string
			var sizes []uint32
			for i := range 60 {
				content := fmt.Sprintf("client %d batch %d", client, i)
				records := 1 + rng.Uint32N(20)
				pending = append(pending, r.submit(r.submission(content, records, WALSynced)))
				contents, sizes = append(contents, content), append(sizes, records)
			}
			last := uint64(0)
			for i, done := range pending {
				s := <-done
				mu.Lock()
				if s.Err != nil || s.FirstLSN <= last || s.LastLSN-s.FirstLSN+1 != uint64(sizes[i]) || s.AckedRecords != sizes[i] {
					t.Errorf("answer %+v to %q after LSN %d", s, contents[i], last)
				}
				acked[s.FirstLSN] = fmt.Sprintf("acme:%s:%d", contents[i], sizes[i])
				mu.Unlock()
				last = s.LastLSN
			}
		})
	}
	group.Wait()
	require.Equal(t, acked, r.logged())
	require.NoError(t, r.Drain(context.Background()))
	require.Equal(t, acked, r.inMemory())
	require.Greater(t, len(r.sealed.generations), 5)
}

func TestAckWaitsForTheSync(t *testing.T) {
	r := newRig(t, testConfig())
	r.holdSyncs()
	done := r.submit(r.submission("a", 1, WALSynced))
	<-r.entered
	buffered := r.commit(r.submission("b", 1, Buffered)) // answered while the log is busy
	require.Nil(t, buffered.Err)
	require.Zero(t, buffered.FirstLSN)
	require.Equal(t, uint32(1), buffered.AckedRecords)
	select {
	case <-done:
		t.Fatal("acknowledged before the sync")
	default:
	}
	r.resume <- nil
	require.Nil(t, (<-done).Err)
	require.NoError(t, r.Drain(context.Background()))
	require.Equal(t, map[uint64]string{1: "acme:a:1", 2: "acme:b:1"}, r.logged())
}

func TestCommittedWaitsForAllSinks(t *testing.T) {
	r := newRig(t, testConfig())
	first := r.submit(r.submission("a", 10, Committed).from(1, 1, 1))
	second := r.submit(r.submission("b", 10, Committed))
	require.NoError(t, r.Seal(context.Background()))
	r.bus.Publish(events.Event{Kind: events.Committed, First: 1, Last: 10})
	require.Nil(t, (<-first).Err)
	select {
	case <-second:
		t.Fatal("answered before all of it was committed")
	default:
	}
	again := r.commit(r.submission("a", 10, Committed).from(1, 1, 1))
	require.True(t, again.Duplicate, "a duplicate of what is committed is answered at once")
	duplicate := r.commit(r.submission("a", 10, WALSynced).from(1, 1, 1))
	require.Equal(t, uint64(1), duplicate.FirstLSN)

	require.NoError(t, r.Close())
	s := <-second
	require.Equal(t, refusal.OutcomeUnknown, s.Err.Code, "what no sink has committed when the server stops")
}

func TestCommittedWaitersAreBounded(t *testing.T) {
	config := testConfig()
	config.MaxCommittedWaiters = 1
	r := newRig(t, config)
	waiting := r.submit(r.submission("a", 1, Committed))
	require.NoError(t, r.Seal(context.Background())) // it is among the waiters now
	s := r.submission("b", 1, Committed)
	s.Done = func(*Submission) {}
	err := r.offer(context.Background(), s)
	requireCode(t, refusal.Overloaded, err)
	s.Buf.Release()
	r.bus.Publish(events.Event{Kind: events.Committed, First: 1, Last: 1})
	<-waiting
}

func requireCode(t *testing.T, code refusal.Code, err error) *refusal.Error {
	t.Helper()
	var refused *refusal.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code)
	return refused
}

func TestResentBatchesAreStoredOnce(t *testing.T) {
	r := newRig(t, testConfig())
	r.holdSyncs()
	plug := r.submit(r.submission("plug", 1, WALSynced))
	<-r.entered
	// These two meet in one group: the second is a duplicate of a batch that is not durable yet.
	original := r.submit(r.submission("x", 5, WALSynced).from(7, 2, 10))
	resent := r.submit(r.submission("x", 5, WALSynced).from(7, 2, 10))
	r.resume <- nil
	<-plug
	a, b := <-original, <-resent
	require.False(t, a.Duplicate)
	require.True(t, b.Duplicate)
	require.Nil(t, b.Err)
	require.Equal(t, []uint64{2, 6}, []uint64{a.FirstLSN, a.LastLSN})
	require.Equal(t, []uint64{2, 6}, []uint64{b.FirstLSN, b.LastLSN})

	later := r.commit(r.submission("x", 5, WALSynced).from(7, 2, 10))
	require.True(t, later.Duplicate)
	require.Equal(t, uint64(2), later.FirstLSN)

	fenced := r.commit(r.submission("y", 5, WALSynced).from(7, 1, 99))
	require.Equal(t, refusal.ProducerFenced, fenced.Err.Code)
	disordered := r.commit(r.submission("z", 5, WALSynced).from(7, 2, 9))
	require.Equal(t, refusal.SequenceOutOfOrder, disordered.Err.Code)
	newEpoch := r.commit(r.submission("w", 1, WALSynced).from(7, 3, 1))
	require.Nil(t, newEpoch.Err)
	require.Equal(t, map[uint64]string{1: "acme:plug:1", 2: "acme:x:5", 7: "acme:w:1"}, r.logged())
}

func TestFullShareRefusesOrWaits(t *testing.T) {
	config := testConfig()
	config.QueueBatches, config.GatherBytes = 4, 1
	r := newRig(t, config)
	done := r.stall()
	for range config.QueueBatches / 2 { // the share of a tenant that is alone
		done = append(done, r.submit(r.submission("queued", 1, WALSynced)))
	}
	unary := r.submission("unary", 1, WALSynced)
	unary.Block, unary.Done = false, func(*Submission) {}
	err := r.offer(context.Background(), unary)
	require.NotZero(t, requireCode(t, refusal.Overloaded, err).RetryDelay)
	unary.Buf.Release()

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	stream := r.submission("stream", 1, WALSynced)
	stream.Done = func(*Submission) {}
	require.ErrorIs(t, r.offer(cancelled, stream), context.Canceled)
	stream.Buf.Release()

	other := r.submission("another tenant's", 1, WALSynced)
	other.Tenant, other.Block = "globex", false
	done = append(done, r.submit(other))

	waiting := make(chan *Submission, 1)
	go func() {
		s := r.submission("patient", 1, WALSynced)
		s.Done = func(s *Submission) { waiting <- s }
		if err := r.offer(context.Background(), s); err != nil {
			t.Error(err)
		}
	}()
	r.resume <- nil
	require.Nil(t, (<-waiting).Err)
	for _, d := range done {
		require.Nil(t, (<-d).Err)
	}
	require.NotContains(t, r.logged(), "acme:unary:1")
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	config := testConfig()
	config.QueueBytes, config.QueueBatches, config.GatherBytes = 100, 100, 1
	r := newRig(t, config)
	large := r.submission(string(make([]byte, 101)), 1, WALSynced)
	large.Done = func(*Submission) {}
	requireCode(t, refusal.TooLarge, r.offer(context.Background(), large))
	large.Buf.Release()

	done := append(r.stall(), r.submit(r.submission(string(make([]byte, 60)), 1, WALSynced)))
	unary := r.submission(string(make([]byte, 60)), 1, WALSynced)
	unary.Block, unary.Done = false, func(*Submission) {}
	requireCode(t, refusal.Overloaded, r.offer(context.Background(), unary))
	unary.Buf.Release()
	r.resume <- nil
	for _, d := range done {
		require.Nil(t, (<-d).Err)
	}
}

func TestBatchLargerThanAGroupIsRefused(t *testing.T) {
	r := newRig(t, testConfig())
	s := r.commit(r.submission(string(make([]byte, 70<<10)), 1, WALSynced))
	require.Equal(t, refusal.TooLarge, s.Err.Code)
	require.Nil(t, r.commit(r.submission("small", 1, WALSynced)).Err)
}

func TestManyBatchesSpreadOverGroups(t *testing.T) {
	r := newRig(t, testConfig())
	r.holdSyncs()
	done := []<-chan *Submission{r.submit(r.submission("plug", 1, WALSynced))}
	<-r.entered
	for range 10 { // a group of 64 KiB takes one of them
		done = append(done, r.submit(r.submission(string(make([]byte, 40<<10)), 1, WALSynced)))
	}
	r.resume <- nil
	for i, d := range done {
		s := <-d
		require.Nil(t, s.Err)
		require.Equal(t, uint64(i+1), s.FirstLSN)
	}
}

// A failed sync of a batch that is committed alone ends in the same way.
func TestFailedSyncOfALoneBatch(t *testing.T) {
	r := newRig(t, testConfig())
	require.Nil(t, r.commit(r.submission("first", 1, WALSynced)).Err)
	r.holdSyncs()
	alone := r.submit(r.submission("alone", 1, WALSynced))
	<-r.entered
	queued := r.submit(r.submission("behind it", 1, WALSynced))
	r.resume <- syscall.EIO
	for _, done := range []<-chan *Submission{alone, queued} {
		s := <-done
		require.NotNil(t, s.Err)
		require.Equal(t, refusal.OutcomeUnknown, s.Err.Code)
	}
	require.ErrorIs(t, <-r.fatal, syscall.EIO)
}

// While a group is under way, the next one fills. Duplicates of either are answered with it, not before.
func TestDuplicatesWaitForTheirGroups(t *testing.T) {
	r := newRig(t, testConfig())
	r.holdSyncs()
	submit := func(content string, sequence uint64) <-chan *Submission {
		return r.submit(r.submission(content, 3, WALSynced).from(1, 1, sequence))
	}
	underWay := submit("a", 1)
	<-r.entered
	filling := submit("b", 2)
	again := []<-chan *Submission{submit("a", 1), submit("b", 2)}
	for r.queue.state().batches > 0 {
		runtime.Gosched()
	}
	for _, d := range append(again, underWay, filling) {
		require.Empty(t, d)
	}
	r.resume <- nil
	for i, d := range []<-chan *Submission{underWay, filling} {
		first, second := <-d, <-again[i]
		require.Nil(t, first.Err)
		require.Nil(t, second.Err)
		require.False(t, first.Duplicate)
		require.True(t, second.Duplicate)
		require.Equal(t, first.FirstLSN, second.FirstLSN)
		require.Equal(t, first.LastLSN, second.LastLSN)
	}
	require.Equal(t, map[uint64]string{1: "acme:a:3", 4: "acme:b:3"}, r.logged())
	require.NoError(t, r.Drain(context.Background()))
	require.Equal(t, r.logged(), r.inMemory())
}

// A group that cannot begin for want of space is refused with its duplicates; the group before it is not touched, and its positions go
// to others.
func TestAGroupWithoutSpaceLeavesTheOneBefore(t *testing.T) {
	log := newHeldLog()
	r := newRigOn(t, testConfig(), log)
	submit := func(content string, sequence uint64) <-chan *Submission {
		return r.submit(r.submission(content, 3, WALSynced).from(1, 1, sequence))
	}
	underWay := submit("a", 1)
	<-log.begun
	again := submit("a", 1)
	dropped, droppedAgain := submit("b", 2), submit("b", 2)
	for r.queue.state().batches > 0 {
		runtime.Gosched()
	}
	log.noSpace = true
	log.done <- nil
	require.Nil(t, (<-underWay).Err)
	require.True(t, (<-again).Duplicate)
	for _, d := range []<-chan *Submission{dropped, droppedAgain} {
		require.Equal(t, refusal.NoSpace, (<-d).Err.Code)
	}
	s := <-submit("b", 2)
	require.Nil(t, s.Err)
	require.False(t, s.Duplicate)
	require.Equal(t, uint64(4), s.FirstLSN)
}

func TestNoSpaceRefusesAndGoesOn(t *testing.T) {
	r := newRig(t, testConfig())
	require.Nil(t, r.commit(r.submission("before", 1, WALSynced).from(1, 1, 1)).Err)
	r.fs.SetCapacity(1)
	sequence := uint64(1)
	var refused *Submission
	for refused == nil { // until the prepared segments are used up
		sequence++
		s := r.commit(r.submission(string(make([]byte, 30<<10)), 1, WALSynced).from(1, 1, sequence))
		if s.Err != nil {
			refused = s
		}
	}
	require.Equal(t, refusal.NoSpace, refused.Err.Code)
	require.NotZero(t, refused.Err.RetryDelay)
	duplicate := r.commit(r.submission("before", 1, WALSynced).from(1, 1, 1))
	require.True(t, duplicate.Duplicate, "what is durable is acknowledged without space")

	r.fs.SetCapacity(0)
	again := r.commit(r.submission("again", 1, WALSynced).from(1, 1, sequence))
	require.Nil(t, again.Err)
	require.False(t, again.Duplicate, "a refused batch was not stored")
	require.Equal(t, sequence, again.FirstLSN)
	require.Empty(t, r.fatal)
}

func TestBufferedBatchThatIsLostIsCounted(t *testing.T) {
	r := newRig(t, testConfig())
	lost := func() float64 { return testutil.ToFloat64(r.metrics.bufferedLost) }
	require.Nil(t, r.commit(r.submission("a", 7, Buffered).from(1, 2, 1)).Err)
	require.NoError(t, r.Seal(context.Background()))
	require.Zero(t, lost())
	require.Nil(t, r.commit(r.submission("b", 7, Buffered).from(1, 1, 1)).Err, "answered before anybody looked")
	require.NoError(t, r.Seal(context.Background()))
	require.Equal(t, float64(7), lost(), "its producer was fenced off")
}

// Whatever a stop meets, every submission is either refused or answered, and what was acknowledged is in the log.
func TestSubmitRacingWithDrain(t *testing.T) {
	config := testConfig()
	config.QueueBatches = 8
	r := newRig(t, config)
	var taken, acked atomic.Int64
	var clients, answers sync.WaitGroup
	for client := range 8 {
		clients.Go(func() {
			for i := 0; ; i++ {
				s := r.submission(fmt.Sprint(client, "/", i), 1, WALSynced)
				s.Block = client%2 == 0
				answers.Add(1)
				s.Done = func(s *Submission) {
					if s.Err == nil {
						acked.Add(1)
					}
					answers.Done()
				}
				err := r.offer(context.Background(), s)
				if err == nil {
					taken.Add(1)
					continue
				}
				answers.Done()
				s.Buf.Release()
				var refused *refusal.Error
				if !errors.As(err, &refused) || refused.Code != refusal.Overloaded {
					return
				}
			}
		})
	}
	for taken.Load() < 200 {
		runtime.Gosched()
	}
	require.NoError(t, r.Drain(context.Background()))
	clients.Wait()
	answers.Wait()
	require.Equal(t, taken.Load(), acked.Load())
	require.Len(t, r.logged(), int(taken.Load()))
	require.Equal(t, r.logged(), r.inMemory())
}

func TestFailedSyncAnswersUnknownAndStops(t *testing.T) {
	r := newRig(t, testConfig())
	r.holdSyncs()
	plug := r.submit(r.submission("plug", 1, WALSynced))
	<-r.entered
	committed := r.submit(r.submission("waits for sinks", 1, Committed))
	durable := r.submit(r.submission("durable", 1, WALSynced).from(1, 1, 1))
	for r.queue.state().batches > 0 { // until both are in the group that fills
		runtime.Gosched()
	}
	r.resume <- nil
	require.Nil(t, (<-plug).Err)
	require.Nil(t, (<-durable).Err)
	r.holdSyncs()
	member := r.submit(r.submission("in the group", 1, WALSynced)) // after a group of two it is handed to the log's goroutine
	<-r.entered
	queued := r.submit(r.submission("behind it", 1, WALSynced))
	require.True(t, r.commit(r.submission("durable", 1, WALSynced).from(1, 1, 1)).Duplicate, "a sync that hangs is no matter to what is durable")
	r.resume <- syscall.EIO
	for _, done := range []<-chan *Submission{committed, member, queued} {
		s := <-done
		require.NotNil(t, s.Err)
		require.Equal(t, refusal.OutcomeUnknown, s.Err.Code)
		require.Zero(t, s.FirstLSN)
	}
	require.ErrorIs(t, <-r.fatal, syscall.EIO)
	late := r.submission("late", 1, WALSynced)
	late.Done = func(*Submission) {}
	requireCode(t, refusal.Unavailable, r.offer(context.Background(), late))
	late.Buf.Release()
	require.NoError(t, r.Drain(context.Background()))
	require.Empty(t, r.sealed.generations, "nothing is handed on after a failure")
}

func TestDrainFinishesWhatWasAccepted(t *testing.T) {
	r := newRig(t, testConfig())
	r.holdSyncs()
	accepted := r.submit(r.submission("a", 1, WALSynced))
	<-r.entered
	queued := r.submit(r.submission("b", 1, WALSynced))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, r.Drain(ctx), context.Canceled)
	late := r.submission("late", 1, WALSynced)
	late.Done = func(*Submission) {}
	requireCode(t, refusal.Unavailable, r.offer(context.Background(), late))
	late.Buf.Release()
	r.resume <- nil
	require.Nil(t, (<-accepted).Err)
	require.Nil(t, (<-queued).Err)
	require.NoError(t, r.Drain(context.Background()))
	require.Equal(t, r.logged(), r.inMemory())
	require.NoError(t, r.Seal(context.Background()), "nothing is left to seal")
}

func TestGenerationsAreSealed(t *testing.T) {
	t.Run("by age", func(t *testing.T) {
		config := testConfig()
		config.Generation.GenerationAge = time.Millisecond
		r := newRig(t, config)
		r.commit(r.submission("a", 1, WALSynced))
		<-r.sealed.added
	})
	t.Run("by records", func(t *testing.T) {
		config := testConfig()
		config.Generation.GenerationRecords = 2
		r := newRig(t, config)
		r.commit(r.submission("a", 1, WALSynced))
		require.Empty(t, r.sealed.added)
		r.commit(r.submission("b", 1, WALSynced))
		<-r.sealed.added
	})
	t.Run("on demand, with an event", func(t *testing.T) {
		r := newRig(t, testConfig())
		subscription, err := r.bus.Subscribe(10, events.NewData, events.GenerationSealed)
		require.NoError(t, err)
		r.commit(r.submission("a", 3, WALSynced))
		require.NoError(t, r.Seal(context.Background()))
		require.Equal(t, events.Event{Kind: events.NewData, First: 1, Last: 3}, <-subscription.Events())
		require.Equal(t, events.Event{Kind: events.GenerationSealed, First: 1, Last: 3}, <-subscription.Events())
	})
	t.Run("when memory is short", func(t *testing.T) {
		r := newRig(t, testConfig())
		r.commit(r.submission(string(make([]byte, 60<<10)), 1, WALSynced))
		r.commit(r.submission(string(make([]byte, 60<<10)), 1, WALSynced))
		r.commit(r.submission(string(make([]byte, 60<<10)), 1, WALSynced))
		_, ok := r.memory.TryGet(4 << 20)
		require.False(t, ok)
		<-r.sealed.added
	})
}

func TestIdleLogIsMarked(t *testing.T) {
	config := testConfig()
	config.IdleAfter = time.Millisecond
	r := newRig(t, config)
	syncs := make(chan struct{}, 100)
	r.fs.Before(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync {
			syncs <- struct{}{}
		}
		return nil
	})
	r.commit(r.submission("a", 1, WALSynced))
	<-syncs // the group's
	<-syncs // the mark's
}

func TestImpossibleSubmissionsPanic(t *testing.T) {
	r := newRig(t, testConfig())
	s := r.submission("never admitted", 1, WALSynced)
	require.Panics(t, func() { _ = r.Submit(s) })
	s.Buf.Release()
}

func TestWithdrawnAdmissionsLeaveNothing(t *testing.T) {
	r := newRig(t, testConfig())
	s := r.submission("unwanted", 1, WALSynced)
	require.NoError(t, r.Admit(context.Background(), s, len(s.Raw)))
	require.NotZero(t, r.queue.state().reservedBytes)
	r.Withdraw(s)
	s.Buf.Release()
	require.Equal(t, queueState{}, r.queue.state())
}

// A batch of another tenant is in the group after the one that is filling, however much a tenant has queued before it.
func TestFloodLetsOthersIntoTheNextGroup(t *testing.T) {
	config := testConfig()
	config.GatherBytes = 50 << 10
	r := newRig(t, config)
	r.holdSyncs()
	done := []<-chan *Submission{r.submit(r.submission("plug", 1, WALSynced))}
	<-r.entered
	for range 20 {
		done = append(done, r.submit(r.submission(string(make([]byte, 40<<10)), 1, WALSynced)))
	}
	other := r.submission("another tenant's", 1, WALSynced)
	other.Tenant = "globex"
	small := r.submit(other)
	r.resume <- nil
	// Before it: the plug, and two of the flood's batches in each of two groups.
	require.LessOrEqual(t, (<-small).FirstLSN, uint64(6))
	for i, d := range done {
		require.Nil(t, (<-d).Err, i)
	}
}

func TestConfigIsValidated(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for _, spoil := range []func(*Config){
		func(c *Config) { c.QueueBatches = 0 },
		func(c *Config) { c.QueueBytes = 0 },
		func(c *Config) { c.GatherBytes = 0 },
		func(c *Config) { c.MaxCommittedWaiters = 0 },
		func(c *Config) { c.IdleAfter = 0 },
		func(c *Config) { c.Generation.GenerationAge = 0 },
	} {
		c := DefaultConfig()
		spoil(&c)
		require.Error(t, c.Validate())
	}
}
