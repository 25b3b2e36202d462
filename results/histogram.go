package results

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram is a latency distribution: a few quantiles for readers, and the whole of it for programs.
type Histogram struct {
	Count     int64 `json:"count"`
	P50Nanos  int64 `json:"p50_ns"`
	P90Nanos  int64 `json:"p90_ns"`
	P99Nanos  int64 `json:"p99_ns"`
	P999Nanos int64 `json:"p999_ns"`
	MaxNanos  int64 `json:"max_ns"`
	// HDRV2 is HdrHistogram's V2 compressed encoding, base64.
	HDRV2 string `json:"hdr_v2"`
}

// NewHistogram encodes a histogram of nanoseconds.
func NewHistogram(h *hdrhistogram.Histogram) (Histogram, error) {
	encoded, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return Histogram{}, fmt.Errorf("encode histogram: %w", err)
	}
	return Histogram{
		Count:    h.TotalCount(),
		P50Nanos: h.ValueAtQuantile(50), P90Nanos: h.ValueAtQuantile(90), P99Nanos: h.ValueAtQuantile(99),
		P999Nanos: h.ValueAtQuantile(99.9), MaxNanos: h.Max(), HDRV2: string(encoded),
	}, nil
}

// Decode returns the whole histogram.
func (h Histogram) Decode() (*hdrhistogram.Histogram, error) {
	return hdrhistogram.Decode([]byte(h.HDRV2))
}

// MergeHistograms returns the sum of the named histogram over the valid repetitions (over all, where none is valid), or nil
// where none has it.
func MergeHistograms(repetitions []Repetition, name string) (*hdrhistogram.Histogram, error) {
	var sum *hdrhistogram.Histogram
	if valid := validRepetitions(repetitions); len(valid) > 0 {
		repetitions = valid
	}
	for _, repetition := range repetitions {
		encoded, ok := repetition.Histograms[name]
		if !ok {
			continue
		}
		histogram, err := encoded.Decode()
		if err != nil {
			return nil, fmt.Errorf("histogram %s of repetition %d: %w", name, repetition.Index, err)
		}
		if sum == nil {
			sum = histogram
		} else {
			sum.Merge(histogram)
		}
	}
	return sum, nil
}
