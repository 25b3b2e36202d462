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
	// Unit is "ns", "records/s", "records", "batches", "%", "bytes", "ratio", "s" or "code".
	Unit string
	// Better is +1 where more is better, -1 where less is, 0 where neither.
	Better int
	Help   string
}

// Stages are the server's stages with a histogram.
var stageNames = []string{"decode", "queue", "wal_write", "fdatasync", "memtable", "commit", "ack"}

var catalogue = buildCatalogue()

func buildCatalogue() map[string]Metric {
	byName := make(map[string]Metric)
	add := func(m Metric) { byName[m.Name] = m }
	quantiles := []struct{ suffix, words string }{{"p50", "median"}, {"p99", "99th percentile"}, {"p999", "99.9th percentile"}, {"max", "maximum"}}
	for _, q := range quantiles {
		add(Metric{"response_" + q.suffix + "_ns", "ns", -1, q.words + " of the time from the intended send to the ack"})
		add(Metric{"service_" + q.suffix + "_ns", "ns", -1, q.words + " of the time from the actual send to the ack"})
		add(Metric{"schedule_lag_" + q.suffix + "_ns", "ns", -1, q.words + " of how late the load generator sent"})
		for _, stage := range stageNames {
			add(Metric{stage + "_" + q.suffix + "_ns", "ns", -1, q.words + " of the server's stage " + stage})
		}
	}
	for _, m := range []Metric{
		{"acked_records_per_second", "records/s", +1, "records acked in the measured window, over its length"},
		{"achieved_ratio", "ratio", +1, "acked rate over offered rate; open loop only"},
		{"acked_records", "records", 0, "records acked in the measured window"},
		{"failed_batches", "batches", -1, "batches that ended without an ack, retries included"},
		{"retried_batches", "batches", -1, "batches that were sent again"},
		{"missing_records", "records", -1, "acked records that are not stored"},
		{"duplicate_records", "records", -1, "records that are stored more than once"},
		{"corrupt_records", "records", -1, "stored records that differ from what was sent"},
		{"unexpected_records", "records", -1, "stored records that were never sent"},
		{"left_in_log_records", "records", -1, "acked records that the drain left in the log; they were flushed after another start"},
		{"verified_records", "records", +1, "stored records that were read back and compared"},
		{"recovery_ready_ns", "ns", -1, "from the restart after a kill to readiness, replay included; the longest one"},
		{"drain_ns", "ns", -1, "from SIGTERM to the end of the server"},
		{"server_exit_code", "code", -1, "exit code of the drained server"},
		{"server_cpu_pct", "%", -1, "CPU of the server, in percent of the machine"},
		{"client_cpu_pct", "%", -1, "CPU of the load generator, in percent of the machine"},
		{"other_cpu_pct", "%", 0, "CPU of everything else on the machine, in percent of it"},
		{"server_rss_peak_bytes", "bytes", -1, "highest resident memory of the server"},
		{"server_write_bytes", "bytes", -1, "bytes that the server sent to the storage layer"},
		{"steal_pct", "%", -1, "CPU time that the host took away while the load ran"},
	} {
		add(m)
	}
	return byName
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
