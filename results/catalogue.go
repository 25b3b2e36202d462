package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Metric describes one figure of a repetition.
type Metric struct {
	Name string
	// Unit is "ns", "records/s", "records", "batches", "%", "bytes", "bytes/s", "ratio", "s" or "code".
	Unit string
	// Better is +1 where more is better, -1 where less is, 0 where neither.
	Better int
	Help   string
	// Worst: an objective looks at the worst of all repetitions, valid or not, instead of the median. So it is for whatever tells
	// that data was lost or altered.
	Worst bool
	// Ceilings are the kinds of Ceiling without which the metric is not measured.
	Ceilings []string
}

// Stages are the server's stages with a histogram.
var stageNames = []string{"decode", "queue", "wal_write", "fdatasync", "memtable", "commit", "ack"}

var catalogue = buildCatalogue()

func buildCatalogue() map[string]Metric {
	byName := make(map[string]Metric)
	add := func(m Metric) { byName[m.Name] = m }
	quantiles := []struct{ suffix, words string }{{"p50", "median"}, {"p99", "99th percentile"}, {"p999", "99.9th percentile"}, {"max", "maximum"}}
	for _, q := range quantiles {
		add(Metric{Name: "response_" + q.suffix + "_ns", Unit: "ns", Better: -1, Help: q.words + " of the time from the intended send to the ack"})
		add(Metric{Name: "service_" + q.suffix + "_ns", Unit: "ns", Better: -1, Help: q.words + " of the time from the actual send to the ack"})
		add(Metric{Name: "schedule_lag_" + q.suffix + "_ns", Unit: "ns", Better: -1, Help: q.words + " of how late the load generator sent"})
		for _, stage := range stageNames {
			add(Metric{Name: stage + "_" + q.suffix + "_ns", Unit: "ns", Better: -1, Help: q.words + " of the server's stage " + stage})
		}
	}
	for _, m := range []Metric{
		{Name: "acked_records_per_second", Unit: "records/s", Better: +1, Help: "records acked in the measured window, over its length"},
		{Name: "achieved_ratio", Unit: "ratio", Better: +1, Help: "acked rate over offered rate; open loop only"},
		{Name: "acked_records", Unit: "records", Better: 0, Help: "records acked in the measured window"},
		{Name: "failed_batches", Unit: "batches", Better: -1, Help: "batches that ended without an ack, retries included"},
		{Name: "retried_batches", Unit: "batches", Better: -1, Help: "batches that were sent again"},
		{Name: "neighbour_acked_records_per_second", Unit: "records/s", Better: +1,
			Help: "records of the neighbour's load acked in the measured window, over its length"},
		{Name: "neighbour_failed_batches", Unit: "batches", Better: -1, Help: "batches of the neighbour's load that ended without an ack"},
		{Name: "missing_records", Unit: "records", Better: -1, Help: "acked records that are not stored", Worst: true},
		{Name: "duplicate_records", Unit: "records", Better: -1, Help: "records that are stored more than once", Worst: true},
		{Name: "corrupt_records", Unit: "records", Better: -1, Help: "stored records that differ from what was sent", Worst: true},
		{Name: "unexpected_records", Unit: "records", Better: -1, Help: "stored records that were never sent", Worst: true},
		{Name: "left_in_log_records", Unit: "records", Better: -1, Help: "acked records that the drain left in the log; they were flushed after another start"},
		{Name: "verified_records", Unit: "records", Better: +1, Help: "stored records that were read back and compared"},
		{Name: "recovery_ready_ns", Unit: "ns", Better: -1, Help: "from the restart after a kill to readiness, replay included; the longest one"},
		{Name: "recovery_rss_peak_bytes", Unit: "bytes", Better: -1, Help: "highest resident memory of a server that was started again after the load, until its log is flushed"},
		{Name: "drain_ns", Unit: "ns", Better: -1, Help: "from SIGTERM to the end of the server"},
		{Name: "server_exit_code", Unit: "code", Better: -1, Help: "exit code of the drained server"},
		{Name: "server_cpu_pct", Unit: "%", Better: -1, Help: "CPU of the server, in percent of the machine"},
		{Name: "client_cpu_pct", Unit: "%", Better: -1, Help: "CPU of the load generator, in percent of the machine"},
		{Name: "other_cpu_pct", Unit: "%", Better: 0, Help: "CPU of everything else on the machine, in percent of it"},
		{Name: "server_rss_peak_bytes", Unit: "bytes", Better: -1, Help: "highest resident memory of the server"},
		{Name: "server_write_bytes", Unit: "bytes", Better: -1, Help: "bytes that the server sent to the storage layer"},
		{Name: "rss_growth_ratio", Unit: "ratio", Better: -1,
			Help: "highest resident memory of the server in the last quarter of the measured phases, over that in their second quarter"},
		{Name: "backlog_growth_ratio", Unit: "ratio", Better: -1,
			Help: "largest backlog (records in the log, not yet flushed) in the last quarter of the measured phases, over that in their second quarter"},
		{Name: "backlog_peak_records", Unit: "records", Better: -1, Help: "most records that were in the log and not yet flushed, while the load ran"},
		{Name: "throttled_pct", Unit: "%", Better: -1, Help: "CPU time that limits of the control group withheld from the load generator and its server while the load ran"},
		{Name: "thermal_events", Unit: "events", Better: -1, Help: "how often cores slowed down because of heat while the load ran; 0 where the processor does not tell"},
		{Name: "steal_pct", Unit: "%", Better: -1, Help: "CPU time that the host took away while the load ran"},
	} {
		add(m)
	}
	addCeilingMetrics(add)
	return byName
}

func addCeilingMetrics(add func(Metric)) {
	for _, c := range []struct{ kind, words string }{
		{NullSink, "the null sink: the same path, which stores nothing"},
		{EmptyHandler, "an empty handler"},
		{SinglePair, "the same load for one (tenant, endpoint) alone"},
	} {
		add(Metric{Name: c.kind + "_records_per_second", Unit: "records/s", Help: "closed-loop rate of " + c.words, Ceilings: []string{c.kind}})
		add(Metric{Name: c.kind + "_response_p50_ns", Unit: "ns", Help: "median response time of " + c.words, Ceilings: []string{c.kind}})
		add(Metric{Name: c.kind + "_response_p99_ns", Unit: "ns", Help: "99th percentile of the response time of " + c.words, Ceilings: []string{c.kind}})
		add(Metric{Name: c.kind + "_ratio", Unit: "ratio", Better: +1, Help: "acked rate over that of " + c.words, Ceilings: []string{c.kind}})
	}
	for _, m := range []Metric{
		{Name: "read_log_bytes_per_second", Unit: "bytes/s", Help: "rate of reading the log's files past the page cache, before the restart", Ceilings: []string{ReadLog}},
		{Name: "replay_bytes_per_second", Unit: "bytes/s", Better: +1, Help: "size of the log over the time from the restart to readiness", Ceilings: []string{ReadLog}},
		{Name: "replay_ratio", Unit: "ratio", Better: +1, Help: "replay_bytes_per_second over read_log_bytes_per_second", Ceilings: []string{ReadLog}},
		{Name: "null_sink_offered_ratio", Unit: "ratio", Help: "offered rate over that of the null sink; open loop only", Ceilings: []string{NullSink}},
		{Name: "raw_disk_records_per_second", Unit: "records/s", Help: "rate of one writer that makes one batch of this load after the other durable"},
		{Name: "raw_disk_p50_ns", Unit: "ns", Help: "median of that writer's write and fdatasync"},
		{Name: "raw_disk_p99_ns", Unit: "ns", Help: "99th percentile of that writer's write and fdatasync"},
		{Name: "raw_disk_ratio", Unit: "ratio", Better: +1, Help: "acked rate over that of the raw disk; above 1 where one sync covers several batches"},
	} {
		if m.Ceilings == nil {
			m.Ceilings = []string{RawDisk}
		}
		add(m)
	}
	add(Metric{Name: "idle_ack_ratio", Unit: "ratio", Better: -1, Ceilings: []string{RawDisk, EmptyHandler},
		Help: "response_p50_ns over raw_disk_p50_ns + empty_handler_response_p50_ns: what an ack costs beyond the call and the disk"})
}

// LookUp returns the metric of that name.
func LookUp(name string) (Metric, bool) {
	m, ok := catalogue[name]
	return m, ok
}

// MetricNames returns the names of all metrics, sorted.
func MetricNames() []string { return slices.Sorted(maps.Keys(catalogue)) }

// FormatValue writes a figure for people, with its unit: "0.85 ms", "1.10M records/s".
func FormatValue(value float64, unit string) string {
	switch unit {
	case "ns":
		return formatNanos(value)
	case "%":
		return fmt.Sprintf("%.1f%%", value)
	case "ratio":
		return fmt.Sprintf("%.3f", value)
	case "code":
		return fmt.Sprintf("%.0f", value)
	case "bytes":
		return formatBytes(value)
	case "bytes/s":
		return formatBytes(value) + "/s"
	default:
		return formatCount(value) + " " + unit
	}
}

func formatNanos(nanos float64) string {
	d := time.Duration(nanos)
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < 100*time.Microsecond:
		return fmt.Sprintf("%.1f us", nanos/1e3)
	case d < time.Second:
		return strings.TrimSuffix(fmt.Sprintf("%.2f", nanos/1e6), ".00") + " ms"
	default:
		return fmt.Sprintf("%.2f s", nanos/1e9)
	}
}

func formatBytes(bytes float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for bytes >= 1024 && i < len(units)-1 {
		bytes /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", bytes)
	}
	return fmt.Sprintf("%.1f %s", bytes, units[i])
}

func formatCount(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.2fM", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1fk", n/1e3)
	case n == float64(int64(n)):
		return fmt.Sprintf("%d", int64(n))
	default:
		return fmt.Sprintf("%.1f", n)
	}
}
