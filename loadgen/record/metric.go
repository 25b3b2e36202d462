package record

import (
	"fmt"
	"math"
)

// Limits of a metric's identity, which must fit the 53 bits of an exact float64:
// producer (13 bits) | sequence (25 bits) | index (15 bits).
const (
	MaxMetricProducers = 1 << 13
	MaxMetricSequence  = 1<<25 - 1
	MaxMetricRecords   = 1 << 15 // in a request
)

// metricNames is how many names the metrics of a run go round.
const metricNames = 32

// Metric is a synthetic metric, as its judge expects it in the database.
type Metric struct {
	Name                 string
	Value                float64
	TimestampUnixNano    int64
	Unit                 string
	LabelKey, LabelValue string
}

// MetricOf makes the metric with this identity. The value alone names it, within its run.
func MetricOf(i Identity) Metric {
	return Metric{
		Name:              metricName[i.Index%metricNames],
		Value:             MetricValue(i),
		TimestampUnixNano: i.TimestampUnixNano(),
		Unit:              "units",
		LabelKey:          "core",
		LabelValue:        attributeValues[i.Index%uint32(len(attributeValues))],
	}
}

var metricName = func() (names [metricNames]string) {
	for i := range names {
		names[i] = fmt.Sprintf("load_metric_%02d", i)
	}
	return names
}()

// MetricInstance is the instance under which a producer's metrics are sent.
func MetricInstance(producer uint16) string { return fmt.Sprintf("producer-%d", producer) }

// MetricValue packs an identity, without its time, into a number.
func MetricValue(i Identity) float64 {
	return float64(uint64(i.Producer)<<40 | i.Sequence<<15 | uint64(i.Index))
}

// ParseMetricValue reads the identity, without its time, out of a value. It reports false for values that MetricValue
// cannot have made.
func ParseMetricValue(v float64) (Identity, bool) {
	if !(v >= 0 && v < 1<<53) || v != math.Trunc(v) {
		return Identity{}, false
	}
	u := uint64(v)
	return Identity{
		Producer: uint16(u >> 40),
		Sequence: u >> 15 & MaxMetricSequence,
		Index:    uint32(u & (MaxMetricRecords - 1)),
	}, true
}
