package processor

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

// oneBatch returns a generation of one batch, which holds 1 KiB of the pool.
func oneBatch(t *testing.T, pool *slab.Pool, first, last uint64) *memtable.Generation {
	buf, ok := pool.TryGet(1 << 10)
	require.True(t, ok)
	set := memtable.NewSet()
	set.Insert("t", []byte("e"), memtable.Batch{Buf: buf, Raw: buf.Bytes(), First: first, Last: last}, nil, time.Now())
	return set.Seal()
}

// shape lists the entries as (first, last, in memory).
func (b *backlog) shape() (shape [][3]any) {
	for _, e := range b.entries {
		shape = append(shape, [3]any{int(e.first), int(e.last), e.generation != nil})
	}
	return shape
}

func TestBacklogDropsWhatIsNeededLast(t *testing.T) {
	pool := slab.New(1<<20, nil)
	b := &backlog{memoryBytes: 3 << 10}
	b.reset(1, 10)
	for first := uint64(11); first <= 51; first += 10 {
		b.add(oneBatch(t, pool, first, first+9))
	}
	require.Equal(t, int64(5<<10), pool.UsedBytes(), "nothing leaves memory before the dedupe copy has it")
	b.absorbedUpTo(60)
	require.Equal(t, [][3]any{{1, 10, false}, {11, 20, true}, {21, 30, true}, {31, 40, true}, {41, 60, false}}, b.shape(),
		"while no sink has passed anything, the newest go")
	require.Equal(t, int64(3<<10), pool.UsedBytes())

	b.flushedUpTo(5, 30) // one sink is far ahead of the other
	b.add(oneBatch(t, pool, 61, 70))
	b.absorbedUpTo(70)
	require.Equal(t, [][3]any{{1, 20, false}, {21, 30, true}, {31, 40, true}, {41, 60, false}, {61, 70, true}}, b.shape(),
		"what only the laggard needs goes first")

	b.flushedUpTo(40, 70)
	require.Equal(t, [][3]any{{41, 60, false}, {61, 70, true}}, b.shape())
	b.flushedUpTo(70, 70)
	require.Empty(t, b.shape())
	require.Zero(t, pool.UsedBytes())
	require.Equal(t, uint64(70), b.lastLSN())
}

// fewestReadBack tries every choice of what to drop, and returns how few generations must be read back at best, where up to room fit in
// memory. An event true is a new generation, false the flush of the next one.
func fewestReadBack(events []bool, added, flushed int, held uint32, room int) int {
	if len(events) == 0 {
		return 0
	}
	if !events[0] {
		missing := 1
		if held&(1<<flushed) != 0 {
			missing = 0
		}
		return missing + fewestReadBack(events[1:], added, flushed+1, held&^(1<<flushed), room)
	}
	held |= 1 << added
	if bits.OnesCount32(held) <= room {
		return fewestReadBack(events[1:], added+1, flushed, held, room)
	}
	best := math.MaxInt
	for i := range added + 1 {
		if held&(1<<i) != 0 {
			best = min(best, fewestReadBack(events[1:], added+1, flushed, held&^(1<<i), room))
		}
	}
	return best
}

// Whatever the order of new generations and flushes, no choice of what to drop reads fewer back.
func TestBacklogReadsBackAsLittleAsCanBe(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	readBack := 0
	for range 300 {
		room := 1 + rng.IntN(3)
		var events []bool
		for added, flushed := 0, 0; len(events) < 16; {
			isNew := added == flushed || rng.IntN(5) < 3
			if events = append(events, isNew); isNew {
				added++
			} else {
				flushed++
			}
		}
		pool := slab.New(1<<20, nil)
		b := &backlog{memoryBytes: int64(room) << 10}
		missing, flushed := 0, uint64(0)
		for _, isNew := range events {
			if isNew {
				first := b.lastLSN() + 1
				b.add(oneBatch(t, pool, first, first+9))
				require.LessOrEqual(t, pool.UsedBytes(), int64(room+1)<<10, "one more at most, and only until it is absorbed")
				b.absorbedUpTo(first + 9)
				require.LessOrEqual(t, pool.UsedBytes(), int64(room)<<10)
				continue
			}
			g, _, err := b.next(flushed)
			require.NoError(t, err)
			if g == nil {
				missing++
			} else {
				require.Equal(t, []uint64{flushed + 1, flushed + 10}, []uint64{g.First, g.Last})
				g.Release()
			}
			flushed += 10
			b.flushedUpTo(flushed, flushed)
		}
		require.Equal(t, fewestReadBack(events, 0, 0, 0, room), missing, "room for %d, %v", room, events)
		readBack += missing
		b.clear()
		require.Zero(t, pool.UsedBytes())
	}
	require.NotZero(t, readBack)
}

func TestBacklogNext(t *testing.T) {
	pool := slab.New(1<<20, nil)
	b := &backlog{memoryBytes: 1 << 20}
	b.reset(5, 10)
	b.add(oneBatch(t, pool, 11, 20))
	b.add(oneBatch(t, pool, 21, 30))

	g, last, err := b.next(7)
	require.NoError(t, err)
	require.Nil(t, g)
	require.Equal(t, uint64(10), last, "to be read from the log")

	g, _, err = b.next(10)
	require.NoError(t, err)
	require.Equal(t, uint64(11), g.First)
	g.Release()

	_, _, err = b.next(15)
	require.ErrorContains(t, err, "within the batch")

	g, last, err = b.next(30)
	require.NoError(t, err)
	require.Nil(t, g)
	require.Zero(t, last)

	require.Panics(t, func() { b.add(oneBatch(t, slab.New(1<<20, nil), 32, 40)) }, "a gap")
	b.clear()
	require.Zero(t, pool.UsedBytes())
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	c := Config{RetryMin: 100 * time.Millisecond, RetryMax: time.Second}
	for n, most := range []time.Duration{0, 100, 200, 400, 800, 1000, 1000} {
		if n == 0 {
			continue
		}
		most *= time.Millisecond
		for range 50 {
			d := backoff(c, n)
			require.GreaterOrEqual(t, d, most/2)
			require.LessOrEqual(t, d, most)
		}
	}
	require.LessOrEqual(t, backoff(c, 1<<30), time.Second)
}
