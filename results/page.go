package results

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"nanos":  func(n int64) string { return formatNanos(float64(n)) },
	"bytes":  func(n int64) string { return formatBytes(float64(n)) },
	"count":  func(n float64) string { return formatCount(n) },
	"join":   strings.Join,
	"help":   func(metric string) string { m, _ := LookUp(metric); return m.Help },
	"utc":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"number": func(i int) int { return i + 1 },
}).Parse(pageText))

// pageScenario is a scenario with what the page draws of it.
type pageScenario struct {
	*Scenario
	MetricNames []string
	Confidence  string
	Rules       []validityRow
	Latencies   []latencyRow
	Plots       []plot
}

type plot struct {
	Title string
	SVG   template.HTML
}

type latencyRow struct {
	Name string
	Histogram
}

// latencies are the histograms that the page tabulates, and the words for them.
var latencies = []struct{ name, words string }{
	{"client_response", "client: intended send to ack"},
	{"client_service", "client: actual send to ack"},
	{"client_schedule_lag", "client: schedule lag"},
	{"server_ack", "server: receipt to ack"},
	{"server_decode", "server: decode"},
	{"server_queue", "server: queue"},
	{"server_commit", "server: commit (WAL write + fdatasync + memtable)"},
	{"server_wal_write", "server: WAL write"},
	{"server_fdatasync", "server: fdatasync"},
	{"server_memtable", "server: memtable insert"},
}

// WriteHTML writes the report as one page without any reference to the network.
func WriteHTML(w io.Writer, r *Result) error {
	page := struct {
		*Result
		Machine   string
		Verified  string
		Targets   []target
		Variants  []VariantComparison
		About     string
		Note      string
		Scenarios []pageScenario
	}{Result: r, Machine: r.Env.words(), Verified: r.Verify.words(), Targets: r.targets(), Note: targetsNote, Variants: r.compareVariants(), About: variantsNote}
	for i := range r.Scenarios {
		scenario, err := newPageScenario(&r.Scenarios[i])
		if err != nil {
			return fmt.Errorf("scenario %s: %w", r.Scenarios[i].Name, err)
		}
		page.Scenarios = append(page.Scenarios, scenario)
	}
	return pageTemplate.Execute(w, page)
}

func newPageScenario(s *Scenario) (pageScenario, error) {
	page := pageScenario{
		Scenario: s, MetricNames: s.metricNames(), Confidence: confidenceWords(len(validRepetitions(s.Repetitions))), Rules: s.validityRows(),
	}
	merged := make(map[string]*hdrhistogram.Histogram)
	for _, latency := range latencies {
		histogram, err := MergeHistograms(s.Repetitions, latency.name)
		if err != nil {
			return page, err
		}
		if histogram == nil || histogram.TotalCount() == 0 {
			continue
		}
		merged[latency.name] = histogram
		encoded, err := NewHistogram(histogram)
		if err != nil {
			return page, err
		}
		page.Latencies = append(page.Latencies, latencyRow{latency.words, encoded})
	}
	if s.Search != nil {
		if svg := searchPlot(s.Search); svg != "" {
			page.Plots = append(page.Plots, plot{"Latency against rate", svg})
		}
	}
	if svg := percentilePlot(merged); svg != "" {
		page.Plots = append(page.Plots, plot{"Latency by percentile, repetitions together", svg})
	}
	if svg := objectivePlot(s); svg != "" {
		page.Plots = append(page.Plots, plot{"Repetitions against the limits", svg})
	}
	page.Plots = append(page.Plots, timelinePlots(s)...)
	return page, nil
}

// percentilePlot draws latency over the percentile, the axis stretched towards 100 % as the logarithm of what lies above.
func percentilePlot(merged map[string]*hdrhistogram.Histogram) template.HTML {
	var lines []series
	low, high := math.Inf(1), 0.0
	for _, curve := range []struct{ name, words string }{
		{"client_response", "client response"}, {"server_ack", "server ack"}, {"server_commit", "server commit"},
	} {
		histogram := merged[curve.name]
		if histogram == nil {
			continue
		}
		line := series{name: curve.words}
		for above := 0.0; above <= 4; above += 0.05 {
			value := float64(histogram.ValueAtQuantile(100 * (1 - math.Pow(10, -above))))
			line.points = append(line.points, point{above, value})
			if value > 0 {
				low = min(low, value)
			}
			high = max(high, value)
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return ""
	}
	x := axis{high: 4, title: "percentile", ticks: []tick{{0, "0"}, {1, "90"}, {2, "99"}, {3, "99.9"}, {4, "99.99"}}}
	return linePlot("Latency by percentile", x, decadeAxis(low, high), lines)
}

// objectivePlot shows each repetition as a dot, for the objectives whose limit is not zero.
func objectivePlot(s *Scenario) template.HTML {
	var rows []strip
	for _, o := range s.Objectives {
		if o.Limit == 0 {
			continue
		}
		row := strip{name: o.Metric}
		for _, repetition := range s.Repetitions {
			value, ok := repetition.Metrics[o.Metric]
			if !ok {
				continue
			}
			row.dots = append(row.dots, dot{
				ratio: value / o.Limit, hollow: len(repetition.Invalid) > 0,
				title: fmt.Sprintf("repetition %d: %s", repetition.Index+1, FormatValue(value, o.Unit)),
			})
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return ""
	}
	return dotPlot("Repetitions against the limits", rows)
}

// timelinePlots draws rate, p99 and server CPU over time, for the last valid repetition (the last one where none is valid).
func timelinePlots(s *Scenario) []plot {
	repetition := lastRepetition(s.Repetitions)
	if repetition == nil || len(repetition.Timeline) < 2 {
		return nil
	}
	var rate, latency, cpu series
	rate.name, latency.name, cpu.name = "acked records/s", "response p99", "server CPU, % of one core"
	low, high, rateHigh, cpuHigh, end := math.Inf(1), 0.0, 0.0, 0.0, 0.0
	for _, sample := range repetition.Timeline {
		at := float64(sample.ElapsedNanos) / 1e9
		end = at
		rate.points = append(rate.points, point{at, sample.AckedRate})
		rateHigh = max(rateHigh, sample.AckedRate)
		cpu.points = append(cpu.points, point{at, sample.ServerCPUPct})
		cpuHigh = max(cpuHigh, sample.ServerCPUPct)
		if sample.ResponseP99Nanos > 0 {
			value := float64(sample.ResponseP99Nanos)
			latency.points = append(latency.points, point{at, value})
			low, high = min(low, value), max(high, value)
		}
	}
	x := linearAxis(end, "seconds", func(v float64) string { return fmt.Sprintf("%g", v) })
	x.high = end
	x.ticks = slices.DeleteFunc(x.ticks, func(t tick) bool { return t.at > end })
	which := fmt.Sprintf(" over time, repetition %d", repetition.Index+1)
	plots := []plot{{"Rate" + which, linePlot("Rate over time", x, linearAxis(rateHigh, "", formatCount), []series{rate})}}
	if high > 0 {
		plots = append(plots, plot{"Latency" + which, linePlot("Latency over time", x, decadeAxis(low, high), []series{latency})})
	}
	percent := func(v float64) string { return fmt.Sprintf("%g%%", v) }
	return append(plots, plot{"CPU" + which, linePlot("CPU over time", x, linearAxis(cpuHigh, "", percent), []series{cpu})})
}

func lastRepetition(repetitions []Repetition) *Repetition {
	for i := len(repetitions) - 1; i >= 0; i-- {
		if len(repetitions[i].Invalid) == 0 {
			return &repetitions[i]
		}
	}
	if len(repetitions) == 0 {
		return nil
	}
	return &repetitions[len(repetitions)-1]
}
