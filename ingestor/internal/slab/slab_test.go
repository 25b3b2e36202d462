package slab

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClasses(t *testing.T) {
	for class := range classCount {
		size := classSizeBytes(class)
		got, ok := classFor(size)
		require.True(t, ok)
		require.Equal(t, class, got, "size %d", size)
		if class > 0 {
			require.Greater(t, size, classSizeBytes(class-1))
			got, _ = classFor(classSizeBytes(class-1) + 1)
			require.Equal(t, class, got)
			require.LessOrEqual(t, size*4, classSizeBytes(class-1)*5)
		}
	}
	_, ok := classFor(classSizeBytes(classCount-1) + 1)
	require.False(t, ok)
}

func TestGetReturnsTheLengthAskedFor(t *testing.T) {
	p := New(1<<20, nil)
	for _, n := range []int{0, 1, 511, 512, 513, 4096, 100000} {
		b, err := p.Get(context.Background(), n)
		require.NoError(t, err)
		require.Len(t, b.Bytes(), n)
		require.GreaterOrEqual(t, b.SizeBytes(), n)
		require.Equal(t, int64(b.SizeBytes()), p.UsedBytes())
		b.Release()
		require.Zero(t, p.UsedBytes())
	}
	_, err := p.Get(context.Background(), 1<<20+1)
	require.ErrorIs(t, err, ErrTooLarge)
	_, ok := p.TryGet(1<<20 + 1)
	require.False(t, ok)
}

func TestDoubleReleasePanics(t *testing.T) {
	p := New(1<<20, nil)
	b, ok := p.TryGet(100)
	require.True(t, ok)
	b.Release()
	require.Panics(t, b.Release)
}

// waitForWaiters returns once n requests wait. Tests use it to fix an order of arrival.
func waitForWaiters(t *testing.T, p *Pool, n int) {
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.waiters) == n
	}, 10*time.Second, time.Millisecond)
}

func TestWaitersAreServedInOrder(t *testing.T) {
	p := New(8<<10, nil)
	all, err := p.Get(context.Background(), 8<<10)
	require.NoError(t, err)

	order := make(chan int, 3)
	held := make([]*Buf, 3)
	var group sync.WaitGroup
	for i, n := range []int{6 << 10, 512, 512} { // the large one comes first and must not be overtaken
		group.Go(func() {
			b, err := p.Get(context.Background(), n)
			if err != nil {
				t.Error(err)
				return
			}
			held[i] = b
			order <- i
		})
		waitForWaiters(t, p, i+1)
	}
	_, ok := p.TryGet(1)
	require.False(t, ok, "nobody overtakes those who wait")
	select {
	case <-p.Pressure():
	default:
		t.Fatal("no pressure signal")
	}
	all.Release()
	group.Wait()
	require.Len(t, order, 3)
	require.LessOrEqual(t, p.UsedBytes(), p.BudgetBytes())
	for _, b := range held {
		b.Release()
	}
}

func TestCancelledWaiterLetsOthersGo(t *testing.T) {
	p := New(8<<10, nil)
	half, err := p.Get(context.Background(), 4<<10)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := p.Get(ctx, 8<<10)
		failed <- err
	}()
	waitForWaiters(t, p, 1)
	served := make(chan *Buf, 1)
	go func() {
		b, _ := p.Get(context.Background(), 512)
		served <- b
	}()
	waitForWaiters(t, p, 2)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	(<-served).Release()
	half.Release()
	require.Zero(t, p.UsedBytes())
}

func TestFreeBuffersOfOtherClassesMakeRoom(t *testing.T) {
	p := New(8<<10, nil)
	for n := 512; n <= 8<<10; n *= 2 { // leaves free buffers of every size behind
		b, err := p.Get(context.Background(), n)
		require.NoError(t, err)
		b.Release()
		require.LessOrEqual(t, p.freeBytes, p.budgetBytes)
	}
	require.Equal(t, int64(8<<10), p.freeBytes)
	p.Trim()
	require.Zero(t, p.freeBytes)
}

func TestConcurrentUseStaysWithinBudget(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	reg := prometheus.NewPedanticRegistry()
	p := New(64<<10, reg)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(worker)))
			for range 500 {
				ctx, cancel := context.WithCancel(context.Background())
				if rng.IntN(10) == 0 {
					cancel()
				}
				b, err := p.Get(ctx, rng.IntN(32<<10))
				cancel()
				if err != nil {
					continue
				}
				fill := byte(rng.Uint32())
				for i := range b.Bytes() {
					b.Bytes()[i] = fill
				}
				if used := p.UsedBytes(); used > p.BudgetBytes() {
					t.Errorf("%d bytes in use", used)
				}
				for _, v := range b.Bytes() {
					if v != fill {
						t.Error("buffer shared")
						break
					}
				}
				b.Release()
			}
		})
	}
	group.Wait()
	require.Zero(t, p.UsedBytes())
	require.Empty(t, p.waiters)
	n, err := testutil.GatherAndCount(reg)
	require.NoError(t, err)
	require.Equal(t, 5, n)
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	p := New(1<<20, nil)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		a, _ := p.TryGet(1000)
		b, err := p.Get(context.Background(), 50000)
		require.NoError(t, err)
		a.Release()
		b.Release()
	}))
}

func BenchmarkGetRelease(b *testing.B) {
	p := New(64<<20, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			buf, err := p.Get(context.Background(), 150_000)
			if err != nil {
				b.Error(err)
				return
			}
			buf.Release()
		}
	})
}
