package results

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUDistribution against the tables of Mann and Whitney (1947), and for 10 and 10 the well-known critical value of 23.
func TestUDistribution(t *testing.T) {
	require.InDeltaSlice(t, []float64{0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1}, uCumulative(3, 3), 1e-12)
	require.InDeltaSlice(t, []float64{1.0 / 252, 2.0 / 252, 4.0 / 252, 7.0 / 252, 12.0 / 252}, uCumulative(5, 5)[:5], 1e-12)
	require.InDeltaSlice(t, []float64{1.0 / 210, 2.0 / 210, 4.0 / 210, 7.0 / 210, 12.0 / 210}, uCumulative(4, 6)[:5], 1e-12)
	require.InDelta(t, 0.02162852627248912, uCumulative(10, 10)[23], 1e-12)
	require.InDelta(t, 0.026212951135551756, uCumulative(10, 10)[24], 1e-12)
	for _, n := range []int{1, 2, 7} {
		require.InDelta(t, 1, uCumulative(n, 4)[4*n], 1e-12)
	}
}

func TestRankTestIsExact(t *testing.T) {
	require.InDelta(t, 0.1, rankTest([]float64{1, 2, 3}, []float64{4, 5, 6}), 1e-12, "2 of C(6,3) orders")
	require.InDelta(t, 2.0/70, rankTest([]float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}), 1e-12)
	require.InDelta(t, 4.0/252, rankTest([]float64{1, 2, 3, 4, 6}, []float64{5, 7, 8, 9, 10}), 1e-12, "U is 1")
	require.InDelta(t, 1, rankTest([]float64{1, 1, 1}, []float64{1, 1, 1}), 1e-12)
	for n := 2; n < 8; n++ {
		low, high := make([]float64, n), make([]float64, n)
		for i := range n {
			low[i], high[i] = float64(i), float64(100+i)
		}
		require.InDelta(t, smallestP(n, n), rankTest(low, high), 1e-12)
	}
}

// TestHolm: the example of a textbook, by hand: 0.01*4, max(0.02*3, before), 0.03*2, then 0.04*1 is lifted to the one before.
func TestHolm(t *testing.T) {
	require.InDeltaSlice(t, []float64{0.06, 0.04, 0.06, 0.06}, holm([]float64{0.03, 0.01, 0.02, 0.04}), 1e-12)
	require.InDeltaSlice(t, []float64{1, 1}, holm([]float64{0.9, 0.6}), 1e-12)
	require.Empty(t, holm(nil))
}

func TestRepetitionsToShow(t *testing.T) {
	require.Equal(t, 4, repetitionsToShow(1), "2 of 70 is 0.029; 2 of 20 is 0.1")
	require.Equal(t, 5, repetitionsToShow(4), "4 times 2 of 252 is 0.032; 4 times 2 of 70 is 0.11")
	require.Equal(t, 6, repetitionsToShow(20))
}

func TestRatioInterval(t *testing.T) {
	low, high, confidence, ok := ratioInterval([]float64{1, 1, 1}, []float64{2, 3, 4})
	require.True(t, ok)
	require.Equal(t, []float64{2, 4}, []float64{low, high}, "three and three: all ratios")
	require.InDelta(t, 0.9, confidence, 1e-12)
	low, high, confidence, _ = ratioInterval([]float64{10, 10, 10, 10, 10}, []float64{10, 11, 12, 13, 14})
	// P(U <= 2) is 0.0159, P(U <= 3) is 0.0278: two are left out at either end, of five 1.0 and five 1.4.
	require.InDeltaSlice(t, []float64{1, 1.4}, []float64{low, high}, 1e-12)
	require.InDelta(t, 1-2*4.0/252, confidence, 1e-12)
	_, _, _, ok = ratioInterval([]float64{0, 1}, []float64{1, 1})
	require.False(t, ok)
}
