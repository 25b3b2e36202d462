package ingestion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// put admits a batch without waiting and queues it.
func put(q *fairQueue, tenant, name string, bytes int) error {
	s := &Submission{Tenant: tenant, Endpoint: []byte(name)}
	if err := q.admit(context.Background(), s, bytes, false); err != nil {
		return err
	}
	return q.push(s)
}

// fill puts batches of a tenant until its share is used, and returns their number.
func fill(t *testing.T, q *fairQueue, tenant string, bytes int) int {
	for n := 0; ; n++ {
		if err := put(q, tenant, "", bytes); err != nil {
			require.ErrorIs(t, err, errQueueFull)
			return n
		}
	}
}

// names gathers once.
func names(q *fairQueue, limit int64) (found []string) {
	taken, _ := q.gather(limit)
	for taken.n > 0 {
		s := taken.pop()
		found = append(found, s.Tenant+string(s.Endpoint))
	}
	return found
}

// admitLater calls admit, which has to wait, and returns its outcome when it comes.
func admitLater(ctx context.Context, t *testing.T, q *fairQueue, s *Submission, bytes int) <-chan error {
	before := q.state().waits
	outcome := make(chan error, 1)
	go func() { outcome <- q.admit(ctx, s, bytes, true) }()
	require.Eventually(t, func() bool { return q.state().waits > before }, 10*time.Second, 10*time.Microsecond)
	return outcome
}

// requireEmpty checks that nothing is left, of anybody.
func requireEmpty(t *testing.T, q *fairQueue) {
	t.Helper()
	state := q.state()
	state.waits = 0
	require.Equal(t, queueState{}, state)
	require.Zero(t, q.turns.n+q.waiting.n)
	require.False(t, q.holding)
}

func TestTenantsTakeTurns(t *testing.T) {
	q := newFairQueue(8<<20, 1<<20)
	for i := range 4 {
		require.NoError(t, put(q, "a", fmt.Sprint(i), quantumBytes))
	}
	for i := range 3 {
		require.NoError(t, put(q, "b", fmt.Sprint(i), quantumBytes/2))
	}
	require.NoError(t, put(q, "c", "0", 10))
	require.Equal(t, []string{"a0", "b0", "b1", "c0"}, names(q, 2*quantumBytes+10), "a turn is worth the same bytes to all")
	require.NoError(t, put(q, "d", "0", 10))
	require.Equal(t, []string{"a1", "b2", "d0"}, names(q, 2*quantumBytes))
	require.Equal(t, []string{"a2"}, names(q, 1), "one is taken whatever the limit")
	require.Equal(t, []string{"a3"}, names(q, math.MaxInt64))
	require.Empty(t, names(q, math.MaxInt64))
	requireEmpty(t, q)
}

// A batch larger than a quantum waits until its tenant has saved enough credit; what it has sent is then the same as others'.
func TestLargeBatchesGetTheSameBytes(t *testing.T) {
	q := newFairQueue(64<<20, 1<<20)
	const large = 5 * quantumBytes / 2
	for range 8 {
		require.NoError(t, put(q, "large", "", large))
	}
	for range 8 * 5 {
		require.NoError(t, put(q, "small", "", quantumBytes/2))
	}
	bytes := map[string]int64{}
	for q.turns.n == 2 {
		taken, _ := q.gather(1)
		s := taken.pop()
		bytes[s.Tenant] += s.charge
		require.LessOrEqual(t, max(bytes["large"], bytes["small"])-min(bytes["large"], bytes["small"]), int64(large+quantumBytes))
	}
}

func TestSharesShrinkAsTenantsCome(t *testing.T) {
	const batches = 60
	q := newFairQueue(batches, batches)
	require.Equal(t, batches/2, fill(t, q, "a", 1), "one tenant gets half")
	require.Equal(t, batches/4, fill(t, q, "b", 1), "half of what is free")
	require.NoError(t, put(q, "c", "", 1), "there is room for whoever comes next")
	for range 50 { // the busy ones fill up whatever is taken
		names(q, 6)
		fill(t, q, "a", 1)
		fill(t, q, "b", 1)
	}
	require.InDelta(t, batches/3, q.tenants["a"].reserved, 1)
	require.InDelta(t, batches/3, q.tenants["b"].reserved, 1)
	names(q, math.MaxInt64)
	requireEmpty(t, q)
}

func TestSmallBatchesAreBoundedInNumber(t *testing.T) {
	q := newFairQueue(1<<20, 100)
	require.Equal(t, 50, fill(t, q, "a", 1))
}

func TestWaitersOfATenantKeepTheirOrder(t *testing.T) {
	q := newFairQueue(100, 100)
	fill(t, q, "a", 1)
	first, second := &Submission{Tenant: "a"}, &Submission{Tenant: "a"}
	one := admitLater(context.Background(), t, q, first, 40)
	two := admitLater(context.Background(), t, q, second, 1)
	require.ErrorIs(t, put(q, "a", "", 1), errQueueFull, "nobody overtakes those who wait")
	names(q, 5)
	require.Empty(t, two, "the second would fit, the first would not")
	names(q, math.MaxInt64)
	require.NoError(t, <-one)
	require.NoError(t, <-two)
	q.withdraw(first)
	q.withdraw(second)
	requireEmpty(t, q)
}

func TestRoomGoesToWaitingTenantsInTurn(t *testing.T) {
	q := newFairQueue(100, 100)
	hog := &Submission{Tenant: "hog"}
	require.NoError(t, q.admit(context.Background(), hog, 100, true))
	var waiting [3][]<-chan error
	var submissions []*Submission
	for tenant := range waiting {
		for range 3 {
			s := &Submission{Tenant: fmt.Sprint(tenant)}
			submissions = append(submissions, s)
			waiting[tenant] = append(waiting[tenant], admitLater(context.Background(), t, q, s, 20))
		}
	}
	q.withdraw(hog) // room for five, of which the share rule lets in one of each
	for tenant := range waiting {
		require.NoError(t, <-waiting[tenant][0])
	}
	for i := range 3 {
		q.withdraw(submissions[3*i])
	}
	for tenant := range waiting {
		require.NoError(t, <-waiting[tenant][1])
		q.withdraw(submissions[3*tenant+1])
		require.NoError(t, <-waiting[tenant][2])
		q.withdraw(submissions[3*tenant+2])
	}
	requireEmpty(t, q)
}

// A large batch of a tenant that has nothing in the queue is not passed for ever by small ones of others.
func TestRoomIsHeldForALargeBatch(t *testing.T) {
	q := newFairQueue(100, 100)
	fill(t, q, "a", 1)
	s := &Submission{Tenant: "b"}
	outcome := admitLater(context.Background(), t, q, s, 90)
	require.ErrorIs(t, put(q, "c", "", 1), errQueueFull)
	names(q, 39)
	require.Empty(t, outcome)
	require.ErrorIs(t, put(q, "c", "", 1), errQueueFull)
	names(q, 1)
	require.NoError(t, <-outcome)
	names(q, 2)
	require.NoError(t, put(q, "c", "", 1), "the room is nobody's any more")
	q.withdraw(s)
	names(q, math.MaxInt64)
	requireEmpty(t, q)
}

func TestCancelledWaiterLetsOthersIn(t *testing.T) {
	q := newFairQueue(100, 100)
	fill(t, q, "a", 1)
	ctx, cancel := context.WithCancel(context.Background())
	large := admitLater(ctx, t, q, &Submission{Tenant: "b"}, 90)
	small := &Submission{Tenant: "c"}
	waiting := admitLater(context.Background(), t, q, small, 1)
	cancel()
	require.ErrorIs(t, <-large, context.Canceled)
	require.NoError(t, <-waiting)
	q.withdraw(small)
	names(q, math.MaxInt64)
	requireEmpty(t, q)
}

func TestClosedQueueRefusesAndIsEmptied(t *testing.T) {
	q := newFairQueue(100, 100)
	admitted := &Submission{Tenant: "b"}
	require.NoError(t, q.admit(context.Background(), admitted, 10, true))
	queued := fill(t, q, "a", 1)
	waiting := admitLater(context.Background(), t, q, &Submission{Tenant: "a"}, 1)
	q.close()
	q.close()
	require.ErrorIs(t, <-waiting, errQueueClosed)
	require.ErrorIs(t, put(q, "c", "", 1), errQueueClosed)
	require.ErrorIs(t, q.push(admitted), errQueueClosed)
	taken, closed := q.gather(1)
	require.Equal(t, 1, taken.n)
	require.False(t, closed)
	<-q.ready
	taken, closed = q.gather(math.MaxInt64)
	require.Equal(t, queued-1, taken.n)
	require.True(t, closed)
	requireEmpty(t, q)
}

func TestIdleTenantsLeaveNothingBehind(t *testing.T) {
	q := newFairQueue(1<<30, 1<<20)
	for i := range 3 * maxIdle {
		require.NoError(t, put(q, fmt.Sprint(i), "", 1))
	}
	require.Equal(t, 3*maxIdle, q.state().tenants)
	names(q, math.MaxInt64)
	requireEmpty(t, q)
	require.Len(t, q.idleTenants, maxIdle)
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	q := newFairQueue(1<<20, 1<<10)
	s := &Submission{Tenant: "a"}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if q.admit(context.Background(), s, 1000, true) != nil || q.push(s) != nil {
			t.Error("refused")
		}
		taken, _ := q.gather(math.MaxInt64)
		taken.pop()
	}))
}

// Many goroutines of several tenants wait, cancel, withdraw and push while one gathers. Each tenant's goroutine sees its batches come
// out in its order, all come out, and nobody waits for ever.
func TestConcurrentUse(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const producers, perProducer = 24, 300
	q := newFairQueue(1000, 50)
	var pushed atomic.Int64
	var group sync.WaitGroup
	for producer := range producers {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(producer)))
			for i := range perProducer {
				ctx, cancel := context.WithCancel(context.Background())
				if rng.IntN(8) == 0 {
					time.AfterFunc(time.Duration(rng.IntN(50))*time.Microsecond, cancel)
				}
				s := &Submission{Tenant: fmt.Sprint(producer % 5), Sequence: uint64(i), Epoch: uint32(producer)}
				err := q.admit(ctx, s, 1+rng.IntN(1000>>rng.IntN(8)), rng.IntN(8) > 0)
				cancel()
				switch {
				case errors.Is(err, errQueueFull) || errors.Is(err, context.Canceled):
				case err != nil:
					t.Error(err)
				case rng.IntN(8) == 0:
					q.withdraw(s)
				default:
					if err := q.push(s); err != nil {
						t.Error(err)
					}
					pushed.Add(1)
				}
			}
		})
	}
	last := make([]int64, producers)
	for i := range last {
		last[i] = -1
	}
	gathered := make(chan int64)
	go func() {
		n := int64(0)
		for range q.ready {
			taken, closed := q.gather(200)
			for n += int64(taken.n); taken.n > 0; {
				s := taken.pop()
				if int64(s.Sequence) <= last[s.Epoch] {
					t.Errorf("producer %d: %d after %d", s.Epoch, s.Sequence, last[s.Epoch])
				}
				last[s.Epoch] = int64(s.Sequence)
			}
			if closed {
				gathered <- n
				return
			}
			runtime.Gosched()
		}
	}()
	group.Wait()
	q.close()
	require.Equal(t, pushed.Load(), <-gathered)
	requireEmpty(t, q)
}

// FuzzFairQueue plays commands on the queue and on a model that holds the same promises in the plainest way, and checks the
// invariants after each.
func FuzzFairQueue(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 1, 1, 2, 2, 3, 0, 0, 250, 4, 9})
	f.Fuzz(func(t *testing.T, commands []byte) {
		const capacity, floor = 1000, 10
		q := newFairQueue(capacity, capacity/floor)
		queues := map[string][]*Submission{} // what each tenant has queued, in order
		reserved := map[string]int64{}       // what each tenant has reserved
		var admitted []*Submission
		for len(commands) >= 2 {
			command, argument := commands[0], int(commands[1])
			commands = commands[2:]
			name := string('a' + command/8%8)
			switch {
			case command%8 < 4:
				s := &Submission{Tenant: name}
				bytes := 4 * argument
				charge := int64(max(bytes, floor))
				total := charge
				for _, r := range reserved {
					total += r
				}
				want := total <= capacity && (reserved[name] == 0 || reserved[name]+charge <= capacity-total)
				err := q.admit(t.Context(), s, bytes, false)
				require.Equal(t, want, err == nil)
				if err == nil {
					reserved[name] += charge
					admitted = append(admitted, s)
				}
			case command%8 < 6 && len(admitted) > 0:
				s := admitted[argument%len(admitted)]
				admitted = append(admitted[:argument%len(admitted)], admitted[argument%len(admitted)+1:]...)
				if command%8 == 4 {
					require.NoError(t, q.push(s))
					queues[s.Tenant] = append(queues[s.Tenant], s)
				} else {
					reserved[s.Tenant] -= s.charge
					q.withdraw(s)
				}
			case command%8 == 6:
				limit := int64(8 * argument)
				taken, _ := q.gather(limit)
				if taken.n == 0 {
					for _, left := range queues {
						require.Empty(t, left)
					}
				}
				require.True(t, taken.n <= 1 || taken.charge <= limit)
				for taken.n > 0 {
					s := taken.pop()
					require.Same(t, queues[s.Tenant][0], s)
					queues[s.Tenant] = queues[s.Tenant][1:]
					reserved[s.Tenant] -= s.charge
				}
			}
			checkInvariants(t, q, queues, reserved)
		}
	})
}

func checkInvariants(t *testing.T, q *fairQueue, queues map[string][]*Submission, reserved map[string]int64) {
	total, batches, tenants, busy := int64(0), 0, 0, 0
	for name, r := range reserved {
		total += r
		batches += len(queues[name])
		if r > 0 {
			tenants++
			require.Equal(t, r, q.tenants[name].reserved)
			require.Equal(t, len(queues[name]), q.tenants[name].queued.n)
		}
		if len(queues[name]) > 0 {
			busy++
		}
	}
	require.Equal(t, queueState{batches: batches, tenants: tenants, reservedBytes: total}, q.state())
	require.LessOrEqual(t, total, q.capacity)
	require.Equal(t, busy, q.turns.n)
	require.True(t, batches == 0 || len(q.ready) == 1)
}
