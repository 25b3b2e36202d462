package runner

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/results"
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
	server := newAbsorbed(a.stages["ack"], a.scenario.Load.Window(), measured.Duration, a.scenario.Load.InFlight)
	repetition.Validity = checkValidity(a.scenario.Validity, repetition.Metrics, server)
	if a.interrupted {
		repetition.Invalid = append(repetition.Invalid, fmt.Sprintf("interrupted after %s of %s",
			measured.Duration.Round(10*time.Millisecond), a.scenario.Load.Measured()))
	}
	repetition.Invalid = slices.Concat(repetition.Invalid, broken(repetition.Validity), disturbed(a.scenario.Validity, a.ceilings))
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
	metrics["throttled_pct"] = a.machinePct(a.throttled.CPU)
	metrics["thermal_events"] = float64(a.throttled.ThermalEvents)
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
