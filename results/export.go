package results

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// WriteBenchstat writes the valid repetitions as Go benchmark text (https://go.dev/design/14313-benchmark-format), one line each, so that
// benchstat can read them: the scenario and the ack level name the benchmark, the metrics are its units. Latencies end in -ns,
// which benchstat scales.
func WriteBenchstat(w io.Writer, r *Result) error {
	var b strings.Builder
	for _, line := range [][2]string{
		{"goos", "linux"}, {"cpu", r.Env.CPUModel}, {"kernel", r.Env.Kernel}, {"filesystem", r.Env.FileSystem}, {"device", r.Env.Device},
		{"commit", r.Env.commitWords()}, {"fdatasync-p50-ns", fmt.Sprint(r.Env.FdatasyncP50Nanos)},
		{"fdatasync-p99-ns", fmt.Sprint(r.Env.FdatasyncP99Nanos)}, {"run", r.StartedAt.UTC().Format("20060102T150405Z")},
	} {
		fmt.Fprintf(&b, "%s: %s\n", line[0], line[1])
	}
	b.WriteString("\n")
	for _, name := range MetricNames() {
		metric, _ := LookUp(name)
		used := slices.ContainsFunc(r.Scenarios, func(s Scenario) bool { return slices.Contains(s.metricNames(), name) })
		if better := map[int]string{1: "higher", -1: "lower"}[metric.Better]; better != "" && used {
			fmt.Fprintf(&b, "Unit %s better=%s\n", benchUnit(name), better)
		}
	}
	for i := range r.Scenarios {
		scenario := &r.Scenarios[i]
		names := scenario.metricNames()
		for _, repetition := range validRepetitions(scenario.Repetitions) {
			fmt.Fprintf(&b, "%s/ack=%s 1", benchName(scenario.Name), strings.ReplaceAll(scenario.AckLevel, " ", "_"))
			for _, name := range names {
				if value, ok := repetition.Metrics[name]; ok {
					fmt.Fprintf(&b, " %v %s", value, benchUnit(name))
				}
			}
			b.WriteString("\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// benchUnit is a metric's name as a benchmark's unit: commit_p99_ns becomes commit_p99-ns.
func benchUnit(metric string) string {
	if base, ok := strings.CutSuffix(metric, "_ns"); ok {
		return base + "-ns"
	}
	return metric
}

// benchName is a scenario's name as that of a benchmark: ingest-1m becomes BenchmarkIngest-1m without the dash, which would begin a number
// of processors: BenchmarkIngest1m.
func benchName(scenario string) string {
	var b strings.Builder
	b.WriteString("Benchmark")
	for _, word := range strings.FieldsFunc(scenario, func(r rune) bool { return r == '-' || r == '/' || r == ' ' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// SaveHistogramLogs writes the histograms of each scenario as dir/<scenario>.hlog, in the log format of HdrHistogram (version 1.3, V2
// compressed histograms), which its viewers and mergers read. The tag is the histogram's name; repetitions follow each other
// in time as if nothing had been between them, valid or not; comments say which are not. It returns the files.
func (r *Result) SaveHistogramLogs(dir string) ([]string, error) {
	var written []string
	for i := range r.Scenarios {
		scenario := &r.Scenarios[i]
		if len(scenario.Repetitions) == 0 {
			continue
		}
		path := filepath.Join(dir, strings.ReplaceAll(scenario.Name, "/", "-")+".hlog")
		if err := r.saveHistogramLog(path, scenario); err != nil {
			return written, fmt.Errorf("%s: %w", path, err)
		}
		written = append(written, path)
	}
	return written, nil
}

func (r *Result) saveHistogramLog(path string, s *Scenario) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	log := hdrhistogram.NewHistogramLogWriter(file)
	start := r.StartedAt.UnixMilli()
	log.SetBaseTime(start)
	err = errors.Join(log.OutputLogFormatVersion(), log.OutputComment(fmt.Sprintf("[%s, ack level %s, commit %s]", s.Name, s.AckLevel, r.Env.commitWords())),
		log.OutputBaseTime(start), log.OutputStartTime(start), log.OutputLegend())
	at := start
	for _, repetition := range s.Repetitions {
		end := at + repetition.DurationNanos/1e6
		words := fmt.Sprintf("[repetition %d]", repetition.Index+1)
		if len(repetition.Invalid) > 0 {
			words = fmt.Sprintf("[repetition %d, not valid: %s]", repetition.Index+1, strings.ReplaceAll(strings.Join(repetition.Invalid, "; "), "\n", " "))
		}
		err = errors.Join(err, log.OutputComment(words))
		for _, name := range sortedKeys(repetition.Histograms) {
			histogram, decodeErr := repetition.Histograms[name].Decode()
			if decodeErr != nil {
				return errors.Join(err, decodeErr)
			}
			histogram.SetTag(name)
			histogram.SetStartTimeMs(at)
			histogram.SetEndTimeMs(end)
			err = errors.Join(err, log.OutputIntervalHistogram(histogram))
		}
		at = end
	}
	return err
}
