package runner

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// absorbed says what a slow server does to the load.
type absorbed struct {
	// window is how long the server may take for a batch before the load generator's bound on unanswered batches makes it late; 0 for a
	// closed loop.
	window time.Duration
	// stalled is for how long about the server kept the load generator waiting beyond that.
	stalled time.Duration
	// measured is the length of the measured load.
	measured time.Duration
}

// newAbsorbed sums the server's answers that took longer than the window. All inFlight batches of a stream wait for the same stall.
func newAbsorbed(acks *hdrhistogram.Histogram, window, measured time.Duration, inFlight int) absorbed {
	found := absorbed{window: window, measured: measured}
	if acks == nil {
		return found
	}
	sum := int64(0)
	for _, bar := range acks.Distribution() {
		if bar.From > int64(window) {
			sum += bar.From * bar.Count
		}
	}
	found.stalled = time.Duration(sum / int64(max(1, inFlight)))
	return found
}

// checkValidity holds a scenario's rules against one repetition.
func checkValidity(rules scenarios.Validity, metrics map[string]float64, server absorbed) []results.Check {
	var checks []results.Check
	add := func(rule, metric string, limit *float64, below, excused bool, reason string) {
		if limit == nil {
			return
		}
		value, ok := metrics[metric]
		check := results.Check{Rule: rule, Metric: metric, Measured: ok, Value: value, Limit: *limit}
		if ok && (below && value < *limit || !below && value > *limit) {
			check.Broken, check.Excused = !excused, excused
		}
		if check.Broken {
			description, _ := results.LookUp(metric)
			check.Reason = fmt.Sprintf(reason, results.FormatValue(value, description.Unit), results.FormatValue(*limit, description.Unit))
		}
		checks = append(checks, check)
	}
	lagExcused, lossExcused := excuses(rules, metrics, server)
	var lag *float64
	if rules.MaxScheduleLagP99 != nil {
		nanos := float64(*rules.MaxScheduleLagP99)
		lag = &nanos
	}
	add("max_steal_pct", "steal_pct", rules.MaxStealPct, false, false, "the host took away %s of the CPU, more than %s")
	add("max_throttled_pct", "throttled_pct", rules.MaxThrottledPct, false, false,
		"limits of the control group withheld %s of the CPU, more than %s")
	add("max_thermal_events", "thermal_events", rules.MaxThermalEvents, false, false,
		"cores slowed down because of heat: %s, more than %s")
	add("max_other_cpu_pct", "other_cpu_pct", rules.MaxOtherCPUPct, false, false, "other processes used %s of the machine, more than %s")
	add("max_client_cpu_pct", "client_cpu_pct", rules.MaxClientCPUPct, false, false, "the load generator used %s of the machine, more than %s")
	add("max_offered_ratio", "null_sink_offered_ratio", rules.MaxOfferedRatio, false, false,
		"the offered load is %s of what this machine carries without a log, more than %s")
	add("max_schedule_lag_p99", "schedule_lag_p99_ns", lag, false, lagExcused,
		"the load generator was late by %s at the 99th percentile, more than %s, through no fault of the server")
	add("min_achieved_ratio", "achieved_ratio", rules.MinAchievedRatio, true, lossExcused,
		"only %s of the offered load was acked, less than %s, through no fault of the server")
	return checks
}

// excuses says whether the server may be why batches were sent late, and why they were not acked in time. It may where it was busy, or
// where more than one answer in a hundred took longer than the bound on unanswered batches absorbs. A few slow answers excuse no more
// than their own length, so that a single one does not excuse a load generator that was the bottleneck.
func excuses(rules scenarios.Validity, metrics map[string]float64, server absorbed) (lag, loss bool) {
	if metrics["server_cpu_pct"] >= rules.ServerHeadroomCPUPct || metrics["ack_p99_ns"] > float64(server.window) {
		return true, true
	}
	missing := (1 - metrics["achieved_ratio"]) * float64(server.measured)
	return metrics["schedule_lag_p99_ns"] <= float64(server.stalled), missing <= float64(server.stalled)
}

// broken lists why a repetition does not count, in words.
func broken(checks []results.Check) []string {
	var reasons []string
	for _, check := range checks {
		if check.Broken {
			reasons = append(reasons, check.Reason)
		}
	}
	return reasons
}
