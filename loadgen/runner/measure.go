package runner

import (
	"fmt"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// measure turns what was observed into a repetition.
func (a *attempt) measure(verification verification) (*results.Repetition, error) {
	measured := &a.load.Measured
	repetition := &results.Repetition{
		Index: a.index, Failure: a.failure, AckLevel: measured.AckedAt.String(), DurationNanos: int64(measured.Duration), StealPct: a.steal,
		Metrics: map[string]float64{}, Errors: errorCounts(measured), Verify: verification.Verify,
		Histograms: map[string]results.Histogram{}, Timeline: a.sampler.timeline, Ceilings: a.ceilings,
	}
	a.addLoadMetrics(repetition.Metrics, measured)
	a.addNeighbourMetrics(repetition.Metrics)
	a.addServerMetrics(repetition.Metrics)
	if verification.Checked {
		repetition.Metrics["missing_records"] = float64(verification.Missing)
		repetition.Metrics["duplicate_records"] = float64(verification.Duplicate)
		repetition.Metrics["corrupt_records"] = float64(verification.Corrupt)
		repetition.Metrics["unexpected_records"] = float64(verification.Unexpected)
		repetition.Metrics["left_in_log_records"] = float64(a.leftInLog)
		repetition.Metrics["verified_records"] = float64(verification.rows)
	}
	for prefix, histogram := range map[string]*hdrhistogram.Histogram{
		"response": measured.Response, "service": measured.Service, "schedule_lag": measured.Lag,
	} {
		if err := addHistogram(repetition, "client_"+prefix, prefix, histogram); err != nil {
			return nil, err
		}
	}
	for stage, histogram := range a.stages {
		if err := addHistogram(repetition, "server_"+stage, stage, histogram); err != nil {
			return nil, err
		}
	}
	results.AddCeilingMetrics(repetition.Metrics, a.ceilings, a.scenario.Load.OfferedRate())
	results.AddGrowthMetrics(repetition.Metrics, a.sampler.measured(a.scenario.Load.WarmUp()))
	repetition.Invalid = invalidity(a.scenario.Validity, repetition.Metrics, a.scenario.Load.Window())
	repetition.Invalid = append(repetition.Invalid, disturbed(a.scenario.Validity, a.ceilings)...)
	return repetition, nil
}

// addHistogram stores a histogram, and its quantiles as metrics where it has any value.
func addHistogram(r *results.Repetition, name, metric string, h *hdrhistogram.Histogram) error {
	if h == nil || h.TotalCount() == 0 {
		return nil
	}
	encoded, err := results.NewHistogram(h)
	if err != nil {
		return err
	}
	r.Histograms[name] = encoded
	r.Metrics[metric+"_p50_ns"] = float64(encoded.P50Nanos)
	r.Metrics[metric+"_p99_ns"] = float64(encoded.P99Nanos)
	r.Metrics[metric+"_p999_ns"] = float64(encoded.P999Nanos)
	r.Metrics[metric+"_max_ns"] = float64(encoded.MaxNanos)
	return nil
}

func (a *attempt) addLoadMetrics(metrics map[string]float64, measured *engine.PhaseResult) {
	metrics["acked_records_per_second"] = measured.AckedRecordsPerSecond
	metrics["acked_records"] = float64(measured.AckedWithin.Records)
	if offered := a.scenario.Load.OfferedRate(); offered > 0 {
		metrics["achieved_ratio"] = measured.AckedRecordsPerSecond / offered
	}
	failed := int64(0)
	for _, count := range errorCounts(measured) {
		failed += count
	}
	metrics["failed_batches"] = float64(failed)
	metrics["retried_batches"] = float64(measured.Resent.Batches)
	metrics["client_cpu_pct"] = a.machinePct(a.load.ClientCPU)
	metrics["steal_pct"] = a.steal
}

// errorCounts gives the batches that ended without an ack by reason.
func errorCounts(measured *engine.PhaseResult) map[string]int64 {
	counts := make(map[string]int64)
	for code, count := range measured.Refused {
		counts[code] = int64(count.Batches)
	}
	if measured.Unknown.Batches > 0 {
		counts["no answer"] = int64(measured.Unknown.Batches)
	}
	if measured.Unsent.Batches > 0 {
		counts["not sent in time"] = int64(measured.Unsent.Batches)
	}
	return counts
}

func (a *attempt) addServerMetrics(metrics map[string]float64) {
	metrics["server_cpu_pct"] = a.machinePct(a.sampler.cpu)
	metrics["server_rss_peak_bytes"] = float64(a.sampler.rssPeakBytes)
	metrics["server_write_bytes"] = float64(a.sampler.writeBytes)
	if a.sampler.backlogPeak > 0 {
		metrics["backlog_peak_records"] = float64(a.sampler.backlogPeak)
	}
	// The figures come from different clocks, so a quiet machine may seem to have used less than nothing.
	others := max(0, a.busy-a.sampler.cpu-a.load.ClientCPU)
	metrics["other_cpu_pct"] = a.machinePct(others)
	if a.recovery > 0 {
		metrics["recovery_ready_ns"] = float64(a.recovery)
	}
	if a.recoveryRSSBytes > 0 {
		metrics["recovery_rss_peak_bytes"] = float64(a.recoveryRSSBytes)
	}
	if a.drain > 0 {
		metrics["drain_ns"] = float64(a.drain)
		metrics["server_exit_code"] = float64(a.exit.Code)
	}
}

// machinePct is a CPU time in percent of what the machine had while the load ran.
func (a *attempt) machinePct(cpu time.Duration) float64 {
	return 100 * cpu.Seconds() / (a.load.Elapsed.Seconds() * float64(runtime.NumCPU()))
}

// invalidity lists the rules that a repetition breaks, in words. window is how long the server may take for a batch before the
// load generator's bound on unanswered batches makes it late; 0 for a closed loop.
func invalidity(rules scenarios.Validity, metrics map[string]float64, window time.Duration) []string {
	var broken []string
	note := func(metric, format string, limit float64) {
		description, _ := results.LookUp(metric)
		broken = append(broken, fmt.Sprintf(format,
			results.FormatValue(metrics[metric], description.Unit), results.FormatValue(limit, description.Unit)))
	}
	if limit := rules.MaxStealPct; limit != nil && metrics["steal_pct"] > *limit {
		note("steal_pct", "the host took away %s of the CPU, more than %s", *limit)
	}
	if limit := rules.MaxOtherCPUPct; limit != nil && metrics["other_cpu_pct"] > *limit {
		note("other_cpu_pct", "other processes used %s of the machine, more than %s", *limit)
	}
	if limit := rules.MaxClientCPUPct; limit != nil && metrics["client_cpu_pct"] > *limit {
		note("client_cpu_pct", "the load generator used %s of the machine, more than %s", *limit)
	}
	if limit := rules.MaxOfferedRatio; limit != nil && metrics["null_sink_offered_ratio"] > *limit {
		note("null_sink_offered_ratio", "the offered load is %s of what this machine carries without a log, more than %s", *limit)
	}
	if metrics["server_cpu_pct"] >= rules.ServerHeadroomCPUPct || metrics["ack_max_ns"] > float64(window) {
		// The server was busy, or kept the load generator waiting: what is late or missing may be its doing, and the
		// objectives judge that.
		return broken
	}
	if limit := rules.MaxScheduleLagP99; limit != nil && metrics["schedule_lag_p99_ns"] > float64(*limit) {
		note("schedule_lag_p99_ns", "the load generator was late by %s at the 99th percentile, more than %s, through no fault of the server", float64(*limit))
	}
	ratio, openLoop := metrics["achieved_ratio"]
	if limit := rules.MinAchievedRatio; limit != nil && openLoop && ratio < *limit {
		note("achieved_ratio", "only %s of the offered load was acked, less than %s, through no fault of the server", *limit)
	}
	return broken
}
