package results

import (
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// significance is the probability of error that comparisons allow, over all their metrics together.
const significance = 0.05

// rankTest is the two-sided Mann-Whitney U test: the probability that two samples of one population differ in rank as much as these
// do. It is exact, ties included, up to 25 values a side (50 without ties).
func rankTest(base, contender []float64) (p float64) {
	return benchmath.AssumeNothing.Compare(
		benchmath.NewSample(slices.Clone(base), &benchmath.DefaultThresholds),
		benchmath.NewSample(slices.Clone(contender), &benchmath.DefaultThresholds)).P
}

// smallestP is the least p-value that n values can have against m: that of samples which do not overlap.
func smallestP(n, m int) float64 {
	return min(1, 2/choose(n+m, n))
}

// choose is the binomial coefficient.
func choose(n, k int) float64 {
	result := 1.0
	for i := 1; i <= k; i++ {
		result = result * float64(n-k+i) / float64(i)
	}
	return math.Round(result)
}

// holm corrects p-values for their number by Holm's step-down procedure (Holm 1979): the chance that any of them is below the limit
// although nothing has changed stays at the limit, whatever depends on what. That fits metrics of the same repetitions, which move together.
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	corrected := make([]float64, len(p))
	highest := 0.0
	for rank, i := range order {
		highest = max(highest, min(1, p[i]*float64(len(p)-rank)))
		corrected[i] = highest
	}
	return corrected
}

// repetitionsToShow is the least number of repetitions on each side with which the clearest change of one metric among so many can be
// significant after the correction.
func repetitionsToShow(metrics int) int {
	n := 2
	for smallestP(n, n)*float64(metrics) >= significance {
		n++
	}
	return n
}

// ratioInterval encloses the factor from base to contender: the order statistics of all pairwise ratios that the U distribution gives
// for 95 % (the interval that belongs to the U test; Hollander, Wolfe: Nonparametric Statistical Methods, 4.3, on logarithms). Where the
// samples are too small for 95 % it spans all ratios, and confidence says what that is worth. ok is false where a value is not positive.
func ratioInterval(base, contender []float64) (low, high, confidence float64, ok bool) {
	var ratios []float64
	for _, b := range base {
		for _, c := range contender {
			if b <= 0 || c <= 0 {
				return 0, 0, 0, false
			}
			ratios = append(ratios, c/b)
		}
	}
	slices.Sort(ratios)
	below := uCumulative(len(base), len(contender))
	cut := 0
	for cut+1 < (len(ratios)+1)/2 && below[cut+1] <= significance/2 {
		cut++
	}
	return ratios[cut], ratios[len(ratios)-1-cut], 1 - 2*below[cut], true
}

// uCumulative returns the probabilities that U is at most 0, 1, 2, … for n and m values of one population, without ties. The number of
// orders with a given U follows the recursion of Mann and Whitney (1947): the largest value is either of the first sample, and
// exceeds all m of the second, or of the second.
func uCumulative(n, m int) []float64 {
	// counts[j][u] is the number of orders for i values against j, for the i reached so far.
	size := n*m + 1
	counts := make([][]float64, m+1)
	for j := range counts {
		counts[j] = make([]float64, size)
		counts[j][0] = 1
	}
	for range n {
		for j := 1; j <= m; j++ {
			next := make([]float64, size)
			for u := range next {
				if u >= j {
					next[u] = counts[j][u-j]
				}
				next[u] += counts[j-1][u]
			}
			counts[j] = next
		}
	}
	total, sum := choose(n+m, n), 0.0
	cumulative := make([]float64, size)
	for u, count := range counts[m] {
		sum += count
		cumulative[u] = sum / total
	}
	return cumulative
}
