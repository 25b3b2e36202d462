package results

import (
	"fmt"
	"slices"
	"strings"
)

// Kinds of Ceiling.
const (
	NullSink     = "null_sink"
	EmptyHandler = "empty_handler"
	RawDisk      = "raw_disk"
	SinglePair   = "single_pair"
	ReadLog      = "read_log"
)

// Ceiling is what the machine gave when a part of the work was left out, right after the load of the same repetition. It is a
// yardstick and never a figure of the server: a null sink and an empty handler keep nothing, so their acks promise nothing, and the
// judge reads nothing back, not even what a single pair has stored.
type Ceiling struct {
	Kind string `json:"kind"`
	// AckLevel is what an ack meant: "buffered" for servers that keep nothing, empty for the raw disk.
	AckLevel string `json:"ack_level,omitempty"`
	// Mode of the raw disk: "direct" (O_DIRECT) or "page cache". Both are taken; the faster one is the ceiling.
	Mode string `json:"mode,omitempty"`
	// WriteBytes is what the raw disk's writer makes durable at a time.
	WriteBytes    int64 `json:"write_bytes,omitempty"`
	DurationNanos int64 `json:"duration_ns"`
	// RecordsPerSecond counts acks, or records that the raw disk's writer made durable; 0 for the reading of a log.
	RecordsPerSecond float64 `json:"records_per_second"`
	// ReadBytes is the size of the log that was read.
	ReadBytes int64 `json:"read_bytes,omitempty"`
	// StealPct is the CPU time that the host took away meanwhile.
	StealPct float64 `json:"steal_pct"`
	// Errors count failed batches by reason.
	Errors map[string]int64 `json:"errors,omitempty"`
	// Response is the time from send to ack, or of the raw disk's write and fdatasync, or of reading 1 MiB.
	Response Histogram `json:"response"`
}

// AddCeilingMetrics adds the ceilings' figures to the metrics of their repetition, and the ratios of its load to them. What they
// are taken of must be there already.
func AddCeilingMetrics(metrics map[string]float64, ceilings []Ceiling, offeredRate float64) {
	for _, ceiling := range ceilings {
		if ceiling.Kind == ReadLog {
			addReplayMetrics(metrics, ceiling)
			continue
		}
		if ceiling.Kind == RawDisk {
			if ceiling.RecordsPerSecond < metrics["raw_disk_records_per_second"] {
				continue
			}
			metrics["raw_disk_p50_ns"] = float64(ceiling.Response.P50Nanos)
			metrics["raw_disk_p99_ns"] = float64(ceiling.Response.P99Nanos)
		} else {
			metrics[ceiling.Kind+"_response_p50_ns"] = float64(ceiling.Response.P50Nanos)
			metrics[ceiling.Kind+"_response_p99_ns"] = float64(ceiling.Response.P99Nanos)
		}
		metrics[ceiling.Kind+"_records_per_second"] = ceiling.RecordsPerSecond
		metrics[ceiling.Kind+"_ratio"] = metrics["acked_records_per_second"] / ceiling.RecordsPerSecond
		if ceiling.Kind == NullSink && offeredRate > 0 {
			metrics["null_sink_offered_ratio"] = offeredRate / ceiling.RecordsPerSecond
		}
	}
	response, acked := metrics["response_p50_ns"]
	disk, disked := metrics["raw_disk_p50_ns"]
	call, called := metrics["empty_handler_response_p50_ns"]
	if acked && disked && called {
		metrics["idle_ack_ratio"] = response / (disk + call)
	}
}

// addReplayMetrics sets the reading of the whole log against the start that replayed it.
func addReplayMetrics(metrics map[string]float64, ceiling Ceiling) {
	metrics["read_log_bytes_per_second"] = float64(ceiling.ReadBytes) / (float64(ceiling.DurationNanos) / 1e9)
	if ready := metrics["recovery_ready_ns"]; ready > 0 {
		metrics["replay_bytes_per_second"] = float64(ceiling.ReadBytes) / (ready / 1e9)
		metrics["replay_ratio"] = metrics["replay_bytes_per_second"] / metrics["read_log_bytes_per_second"]
	}
}

// growthSamples is the least number of samples from which growth can be told.
const growthSamples = 8

// AddGrowthMetrics adds how memory and backlog grew over the samples of the measured phases. Maxima of quarters are compared, so that
// the saw teeth of flushes do not count; the first quarter is left out, in which both still fill.
func AddGrowthMetrics(metrics map[string]float64, measured []Sample) {
	n := len(measured)
	if n < growthSamples {
		return
	}
	second, last := measured[n/4:n/2], measured[n-n/4:]
	for name, of := range map[string]func(Sample) int64{
		"rss_growth_ratio":     func(s Sample) int64 { return s.ServerRSSBytes },
		"backlog_growth_ratio": func(s Sample) int64 { return s.BacklogRecords },
	} {
		if before := highest(second, of); before > 0 {
			metrics[name] = float64(highest(last, of)) / float64(before)
		}
	}
}

func highest(samples []Sample, of func(Sample) int64) int64 {
	most := int64(0)
	for _, sample := range samples {
		most = max(most, of(sample))
	}
	return most
}

// ceilingWords are the ceilings in the words of tables.
var ceilingWords = []struct{ kind, words string }{
	{NullSink, "null sink"}, {EmptyHandler, "empty handler"}, {RawDisk, "raw disk"}, {SinglePair, "single pair"}, {ReadLog, "reading"},
}

// againstCeilings says how an objective's figure stands to the ceilings of its scenario: for a rate the ratios, for a ratio the
// ceilings that it is of.
func (s *Scenario) againstCeilings(o Objective) string {
	metric, _ := LookUp(o.Metric)
	var words []string
	for _, ceiling := range ceilingWords {
		name := ceiling.kind + "_ratio"
		switch {
		case o.Metric == "acked_records_per_second":
		case o.Metric == "replay_ratio" && ceiling.kind == ReadLog:
			name = "read_log_bytes_per_second"
		case o.Metric == "idle_ack_ratio" && slices.Contains(metric.Ceilings, ceiling.kind):
			name = map[string]string{RawDisk: "raw_disk_p50_ns", EmptyHandler: "empty_handler_response_p50_ns"}[ceiling.kind]
		case o.Metric == name:
			name = ceiling.kind + "_records_per_second"
		default:
			continue
		}
		values := valuesOf(s.counted(), name)
		if len(values) == 0 {
			continue
		}
		described, _ := LookUp(name)
		text := FormatValue(summarize(values).median, described.Unit)
		if described.Unit == "ratio" {
			words = append(words, fmt.Sprintf("%.2f of %s", summarize(values).median, ceiling.words))
			continue
		}
		words = append(words, ceiling.words+" "+text)
	}
	return strings.Join(words, ", ")
}

// counted are the valid repetitions, or all where none is valid.
func (s *Scenario) counted() []Repetition {
	if valid := validRepetitions(s.Repetitions); len(valid) > 0 {
		return valid
	}
	return s.Repetitions
}
