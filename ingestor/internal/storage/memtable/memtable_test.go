package memtable

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
)

var limits = Limits{GenerationBytes: 1 << 20, GenerationRecords: 1000, GenerationAge: time.Minute}

func batch(t testing.TB, pool *slab.Pool, first uint64, records int) Batch {
	buf, err := pool.Get(context.Background(), 100)
	require.NoError(t, err)
	copy(buf.Bytes(), fmt.Sprintf("batch %d", first))
	return Batch{Buf: buf, Raw: buf.Bytes(), First: first, Last: first + uint64(records) - 1}
}

func TestGenerationHoldsTheRangeInOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	pool := slab.New(1<<20, nil)
	set := NewSet()
	now := time.Now()
	owner := map[uint64]string{}
	next := uint64(41)
	for range 200 {
		tenant, endpoint := fmt.Sprint("t", rng.IntN(5)), fmt.Sprint("e", rng.IntN(7))
		b := batch(t, pool, next, 1+rng.IntN(9))
		owner[next] = tenant + "/" + endpoint
		next = b.Last + 1
		set.Insert(tenant, []byte(endpoint), b, nil, now)
	}
	g := set.Seal()
	g.Sort()
	require.True(t, set.Empty())
	require.Equal(t, uint64(41), g.First)
	require.Equal(t, next-1, g.Last)
	require.Equal(t, 200, g.Batches)
	seen := map[uint64]string{}
	var previous string
	records := 0
	for _, table := range g.Tables {
		name := table.Tenant + "/" + table.Endpoint
		require.Less(t, previous, name)
		previous = name
		last := uint64(0)
		for _, b := range table.Batches {
			require.Greater(t, b.First, last)
			last = b.Last
			seen[b.First] = name
			require.Equal(t, fmt.Sprintf("batch %d", b.First), string(b.Raw[:len(fmt.Sprintf("batch %d", b.First))]))
		}
		records += table.Records
	}
	require.Equal(t, owner, seen)
	require.Equal(t, g.Records(), uint64(records))
	require.Equal(t, g.Bytes, pool.UsedBytes())

	g.Retain()
	g.Release()
	require.Equal(t, g.Bytes, pool.UsedBytes())
	g.Release()
	require.Zero(t, pool.UsedBytes())
	require.Panics(t, g.Release)
	require.Panics(t, g.Retain)
}

func TestLimits(t *testing.T) {
	pool := slab.New(4<<20, nil)
	now := time.Now()
	set := NewSet()
	require.False(t, set.Full(limits, now.Add(time.Hour)), "an empty set is never full")
	set.Insert("t", []byte("e"), batch(t, pool, 1, 999), nil, now)
	require.False(t, set.Full(limits, now))
	require.True(t, set.Full(limits, now.Add(time.Minute)))
	set.Insert("t", []byte("e"), batch(t, pool, 1000, 1), nil, now)
	require.True(t, set.Full(limits, now))
	set.Discard()
	require.Zero(t, pool.UsedBytes())

	buf, err := pool.Get(context.Background(), 1<<20)
	require.NoError(t, err)
	set.Insert("t", []byte("e"), Batch{Buf: buf, Raw: buf.Bytes(), First: 1, Last: 1}, nil, now)
	require.True(t, set.Full(limits, now))
	set.Discard()
}

func TestInsertRefusesGaps(t *testing.T) {
	pool := slab.New(1<<20, nil)
	set := NewSet()
	set.Insert("t", []byte("e"), batch(t, pool, 5, 2), nil, time.Now())
	require.Panics(t, func() { set.Insert("t", []byte("e"), batch(t, pool, 8, 1), nil, time.Now()) })
	require.Panics(t, func() { NewSet().Seal() })
}

func TestAbove(t *testing.T) {
	pool := slab.New(1<<20, nil)
	set := NewSet()
	for i := range uint64(6) {
		s := &dedupe.Stamp{Tenant: "t", Sequence: i, FirstLSN: 1 + i*10, Records: 10}
		set.Insert("t", fmt.Appendf(nil, "e%d", i/2), batch(t, pool, 1+i*10, 10), s, time.Now())
	}
	g := set.Seal()

	view, err := g.Above(30)
	require.NoError(t, err)
	require.Equal(t, uint64(31), view.First)
	require.Equal(t, uint64(60), view.Last)
	require.Len(t, view.Tables, 2)
	require.Equal(t, "e1", view.Tables[0].Endpoint)
	require.Equal(t, uint64(31), view.Tables[0].Batches[0].First)
	require.Equal(t, 3, view.Batches)
	require.Len(t, view.Stamps, 3)
	require.Equal(t, uint64(31), view.Stamps[0].FirstLSN)

	none, err := g.Above(60)
	require.NoError(t, err)
	require.Nil(t, none)
	_, err = g.Above(35)
	require.Error(t, err)

	g.Release()
	require.NotZero(t, pool.UsedBytes(), "the view keeps the buffers")
	view.Release()
	require.Zero(t, pool.UsedBytes())
}

func TestInsertAllocatesOnlyToGrow(t *testing.T) {
	pool := slab.New(16<<20, nil)
	set := NewSet()
	endpoint := []byte("orders")
	now := time.Now()
	next := uint64(1)
	for range 1000 { // grow the table's slice
		set.Insert("t", endpoint, batch(t, pool, next, 1), nil, now)
		next++
	}
	ready := batch(t, pool, 0, 1)
	allocations := testing.AllocsPerRun(20, func() {
		ready.First, ready.Last = next, next
		set.Insert("t", endpoint, ready, nil, now)
		next++
	})
	require.Zero(t, allocations)
}

// TestAGenerationAllocatesByItsTablesNotItsBatches fills and seals generations of one table: what is allocated is the table and
// the growth of two slices, which doubles the room or adds a quarter to it.
func TestAGenerationAllocatesByItsTablesNotItsBatches(t *testing.T) {
	pool := slab.New(1<<20, nil)
	set := NewSet()
	endpoint, now, stamp := []byte("orders"), time.Now(), dedupe.Stamp{Tenant: "t", Records: 1000}
	buf, ok := pool.TryGet(100)
	require.True(t, ok)
	fill := func(batches uint64) float64 {
		return testing.AllocsPerRun(5, func() {
			for i := range batches {
				set.Insert("t", endpoint, Batch{Buf: buf, Raw: buf.Bytes(), First: 1 + 1000*i, Last: 1000 * (i + 1)}, &stamp, now)
			}
			set.Seal()
		})
	}
	require.LessOrEqual(t, fill(10), 20.0)
	require.LessOrEqual(t, fill(1000), 50.0)
}

// BenchmarkInsert inserts batches of 1,000 records of one (tenant, endpoint), and seals after 900 of them, as the server does by default.
func BenchmarkInsert(b *testing.B) {
	const records, batches = 1000, 900
	pool := slab.New(1<<20, nil)
	buf, err := pool.Get(context.Background(), 100)
	require.NoError(b, err)
	set := NewSet()
	endpoint, now, stamp := []byte("orders"), time.Now(), dedupe.Stamp{Tenant: "t", Records: records}
	b.ReportAllocs()
	next := uint64(1)
	for b.Loop() {
		set.Insert("t", endpoint, Batch{Buf: buf, Raw: buf.Bytes(), First: next, Last: next + records - 1}, &stamp, now)
		if next += records; set.Records() == records*batches {
			set.Seal()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
}

func BenchmarkInsert10000Endpoints(b *testing.B) {
	pool := slab.New(1<<20, nil)
	buf, err := pool.Get(context.Background(), 100)
	require.NoError(b, err)
	endpoints := make([][]byte, 10000)
	for i := range endpoints {
		endpoints[i] = fmt.Appendf(nil, "endpoint-%d", i)
	}
	set := NewSet()
	now := time.Now()
	b.ReportAllocs()
	next := uint64(1)
	for b.Loop() {
		set.Insert("t", endpoints[next%10000], Batch{Buf: buf, Raw: buf.Bytes(), First: next, Last: next}, nil, now)
		next++
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, shape := range []struct{ tables, batches int }{{10, 450}, {10000, 20000}} {
		b.Run(fmt.Sprintf("tables=%d/batches=%d", shape.tables, shape.batches), func(b *testing.B) {
			pool := slab.New(64<<20, nil)
			endpoints := make([][]byte, shape.tables)
			for i := range endpoints {
				endpoints[i] = fmt.Appendf(nil, "endpoint-%d", i)
			}
			set := NewSet()
			now := time.Now()
			for b.Loop() {
				b.StopTimer()
				for i := range shape.batches {
					buf, ok := pool.TryGet(512)
					if !ok {
						b.Fatal("pool is too small")
					}
					lsn := uint64(i + 1)
					set.Insert("t", endpoints[i%shape.tables], Batch{Buf: buf, Raw: buf.Bytes(), First: lsn, Last: lsn}, nil, now)
				}
				b.StartTimer()
				g := set.Seal()
				b.StopTimer()
				g.Release()
				b.StartTimer()
			}
		})
	}
}
