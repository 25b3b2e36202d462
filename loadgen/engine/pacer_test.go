package engine

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUniformPacerIsEven(t *testing.T) {
	p := Pacer{HitsPerSecond: 400, Arrivals: Uniform}
	for hit := range uint64(10_000) {
		require.Equal(t, time.Duration(hit)*2500*time.Microsecond, p.Due(hit))
	}
}

func TestPacerIsPureAndNeverFalls(t *testing.T) {
	for _, arrivals := range []Arrivals{Uniform, Poisson} {
		first := Pacer{HitsPerSecond: 1234.5, Arrivals: arrivals, Seed: 9}
		var due []time.Duration
		for hit := range uint64(5_000) {
			due = append(due, first.Due(hit))
			if hit > 0 {
				require.GreaterOrEqual(t, due[hit], due[hit-1])
			}
		}
		again := Pacer{HitsPerSecond: 1234.5, Arrivals: arrivals, Seed: 9}
		for range 200 {
			hit := rand.Uint64N(uint64(len(due)))
			require.Equal(t, due[hit], again.Due(hit), "hit %d, %s", hit, arrivals)
		}
	}
}

// TestPoissonGaps holds the gaps against the exponential distribution: mean 1/rate, standard deviation the same. With n gaps
// the mean of a right pacer lies within 5/sqrt(n) of it but for one seed in a million; the seed is fixed.
func TestPoissonGaps(t *testing.T) {
	const n, rate = 100_000, 1000.0
	p := Pacer{HitsPerSecond: rate, Arrivals: Poisson, Seed: 3}
	var sum, squares, last float64
	for hit := range uint64(n) {
		due := p.Due(hit).Seconds()
		gap := (due - last) * rate
		last = due
		sum += gap
		squares += gap * gap
	}
	mean := sum / n
	require.InDelta(t, 1, mean, 5/math.Sqrt(n))
	require.InDelta(t, 1, math.Sqrt(squares/n-mean*mean), 10/math.Sqrt(n))
}

func TestPaceSaysHowLongToWaitOrHowLate(t *testing.T) {
	p := Pacer{HitsPerSecond: 10, Arrivals: Uniform}
	require.Equal(t, 200*time.Millisecond, p.Pace(100*time.Millisecond, 3))
	require.Equal(t, -700*time.Millisecond, p.Pace(time.Second, 3))
}

func TestVerySlowPacerDoesNotOverflow(t *testing.T) {
	p := Pacer{HitsPerSecond: 1e-12, Arrivals: Uniform}
	require.Positive(t, p.Due(1e6))
}

func TestScheduleDealsEachHitOnceAndKeepsPhasesApart(t *testing.T) {
	c := Config{
		Tenants: make([]Tenant, 2), Endpoints: make([]string, 3), BatchRecords: 10,
		Phases: []Phase{
			{Name: "a", Duration: time.Second, RecordsPerSecond: 1000},
			{Name: "b", Duration: 2 * time.Second, RecordsPerSecond: 500},
			{Name: "c", RecordsPerSecond: 1000, Records: 55},
		},
	}.withDefaults()
	s := newSchedule(&c)
	var dues [3][]time.Duration
	for {
		ticket, ok := s.next(0)
		if !ok {
			break
		}
		dues[ticket.phase] = append(dues[ticket.phase], ticket.due)
		require.Equal(t, ticket.phase, s.phaseAt(ticket.due))
	}
	require.Len(t, dues[0], 100)
	require.Len(t, dues[1], 100)
	require.Len(t, dues[2], 6)
	require.Equal(t, time.Second, dues[1][0])
	require.Equal(t, 3*time.Second, dues[2][0])
	require.Equal(t, []Counts{{100, 1000}, {100, 1000}, {6, 55}}, s.due)
	_, open := <-s.ended
	require.False(t, open)
}

func TestSamplesNameTheLastPhaseAlsoAfterItsEnd(t *testing.T) {
	c := Config{
		Tenants: make([]Tenant, 1), Endpoints: make([]string, 1),
		Phases: []Phase{{Name: "a", Duration: time.Second}, {Name: "b", Duration: time.Second}},
	}.withDefaults()
	s := sampler{recorder: newRecorder(2, 1, newSchedule(&c)), names: []string{"a", "b"}}
	require.Equal(t, "a", s.sample(0).Phase)
	require.Equal(t, "b", s.sample(time.Second).Phase)
	require.Equal(t, "b", s.sample(3*time.Second).Phase)
}

func TestScheduleCountsWhatCannotBeSentAnyMore(t *testing.T) {
	c := Config{
		Tenants: make([]Tenant, 1), Endpoints: make([]string, 1), BatchRecords: 1, Overrun: time.Second,
		Phases: []Phase{{Name: "a", Duration: time.Second, RecordsPerSecond: 10}},
	}.withDefaults()
	s := newSchedule(&c)
	for range 3 {
		_, ok := s.next(2 * time.Second)
		require.True(t, ok, "late, within the overrun")
	}
	_, ok := s.next(2*time.Second + 1)
	require.False(t, ok)
	require.Equal(t, []Counts{{10, 10}}, s.due)
	require.Equal(t, []Counts{{7, 7}}, s.unsent)
}

func TestKeysFollowZipf(t *testing.T) {
	const draws = 200_000
	k := newKeys(10, 5, 1, 7)
	harmonic := 0.0
	for rank := 1; rank <= 50; rank++ {
		harmonic += 1 / float64(rank)
	}
	counts := make(map[int]int)
	for hit := range uint64(draws) {
		tenant, endpoint := k.at(hit)
		require.True(t, tenant < 10 && endpoint < 5)
		counts[endpoint*10+tenant]++
	}
	for rank := range 50 {
		share := 1 / (float64(rank+1) * harmonic)
		deviation := math.Sqrt(share * (1 - share) / draws)
		require.InDelta(t, share, float64(counts[rank])/draws, 6*deviation, "rank %d", rank)
	}
}
