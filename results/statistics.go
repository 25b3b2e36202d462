package results

import (
	"fmt"
	"math"
	"slices"
)

// intervalFrom is the number of repetitions from which there is an interval to judge. One figure has none: it is judged alone.
const intervalFrom = 2

// wantedConfidence is reached from six values on; fewer give the range of all values and its lower confidence.
const wantedConfidence = 0.95

// ConfidencePct is the confidence, in percent, with which the interval that is judged holds the true median, for a number of
// repetitions; 0 for one. It reaches 95 % with six.
func ConfidencePct(repetitions int) float64 {
	if repetitions < intervalFrom {
		return 0
	}
	confidence := coverage(repetitions, 0)
	for cut := 1; cut < (repetitions+1)/2 && coverage(repetitions, cut) >= wantedConfidence; cut++ {
		confidence = coverage(repetitions, cut)
	}
	return 100 * confidence
}

// repetitionsFor is the least number of repetitions that reach a confidence; 0 where 100 do not.
func repetitionsFor(confidencePct float64) int {
	for n := 1; n <= 100; n++ {
		if 100*coverage(n, 0) >= confidencePct {
			return n
		}
	}
	return 0
}

// confidenceWords say what the intervals over a number of valid repetitions are worth.
func confidenceWords(repetitions int) string {
	switch {
	case repetitions == 0:
		return "no valid repetition"
	case repetitions < intervalFrom:
		return "1 valid repetition: figures without an interval"
	}
	words := fmt.Sprintf("%d valid repetitions: intervals hold the true median with %.1f%% confidence", repetitions, ConfidencePct(repetitions))
	if need := repetitionsFor(100 * wantedConfidence); repetitions < need {
		words += fmt.Sprintf(" (%d reach %.0f%%)", need, 100*wantedConfidence)
	}
	return words
}

type summary struct {
	median, low, high, confidence float64
}

// summarize returns the median and the narrowest symmetric interval of order statistics that holds the true median
// with the wanted confidence. It assumes nothing about the distribution: a value lies below the true median with
// probability 1/2, so the ranks follow a binomial distribution.
func summarize(values []float64) *summary {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	result := &summary{low: sorted[0], high: sorted[n-1], confidence: coverage(n, 0)}
	if n%2 == 1 {
		result.median = sorted[n/2]
	} else {
		result.median = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	for cut := 1; cut < (n+1)/2 && coverage(n, cut) >= wantedConfidence; cut++ {
		result.low, result.high, result.confidence = sorted[cut], sorted[n-1-cut], coverage(n, cut)
	}
	return result
}

// coverage is the probability that the median lies between the order statistics that remain when cut values are left
// out at either end: 1 - 2 * P(Binomial(n, 1/2) <= cut).
func coverage(n, cut int) float64 {
	tail := 0.0
	for k := range cut + 1 {
		logChoose, _ := math.Lgamma(float64(n + 1))
		logK, _ := math.Lgamma(float64(k + 1))
		logRest, _ := math.Lgamma(float64(n - k + 1))
		tail += math.Exp(logChoose - logK - logRest - float64(n)*math.Ln2)
	}
	return max(0, 1-2*tail)
}
