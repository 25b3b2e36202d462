package results

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// Search is the search for the highest rate at which a scenario's objectives hold.
type Search struct {
	// PrecisionPct is the distance at which the search ended, between a rate that held and one that did not.
	PrecisionPct float64 `json:"precision_pct"`
	// Highest is the highest rate that held, in records per second offered, as often as Confirmations say; 0 where none did.
	Highest       float64 `json:"highest_records_per_second"`
	Confirmations int     `json:"confirmations"`
	// Limit is the lowest rate above Highest that did not hold, 0 where none was tried; LimitReason says what gave way there.
	Limit       float64 `json:"limit_records_per_second"`
	LimitReason string  `json:"limit_reason,omitempty"`
	// Doubt says why Highest may be too low: the search's upper bound, or a load generator that was the bottleneck.
	Doubt  string  `json:"doubt,omitempty"`
	Probes []Probe `json:"probes"`
}

// Probe is one short load at one rate.
type Probe struct {
	OfferedRate float64 `json:"offered_records_per_second"`
	// Step is "bracket", "bisect" or "confirm".
	Step  string `json:"step"`
	State State  `json:"state"`
	// Reason says why the state is not pass.
	Reason    string  `json:"reason,omitempty"`
	AckedRate float64 `json:"acked_records_per_second"`
	P50Nanos  int64   `json:"response_p50_ns"`
	P99Nanos  int64   `json:"response_p99_ns"`
}

// Sentence says what was found.
func (s *Search) Sentence() string {
	if s.Highest == 0 {
		return fmt.Sprintf("No rate held in %d probes: %s", len(s.Probes), cmp.Or(s.LimitReason, s.Doubt, "none was finished"))
	}
	words := fmt.Sprintf("The objectives hold up to %s offered, confirmed %d times", FormatValue(s.Highest, "records/s"), s.Confirmations)
	if s.Limit > 0 {
		words += fmt.Sprintf("; at %s they do not: %s", FormatValue(s.Limit, "records/s"), s.LimitReason)
	}
	if s.Doubt != "" {
		words += "; " + s.Doubt
	}
	if knee := s.Knee(); knee > 0 {
		words += fmt.Sprintf("; the knee of p99 over the rate is near %s", FormatValue(knee, "records/s"))
	}
	return words
}

// kneePoints is the least number of rates at which a knee can be told.
const kneePoints = 4

// byRate are the probes that can be drawn, one for each rate (the median of several), in the order of their rates.
func (s *Search) byRate() []Probe {
	rates := make(map[float64][]Probe)
	for _, probe := range s.Probes {
		if probe.P99Nanos > 0 && probe.State != Inconclusive {
			rates[probe.OfferedRate] = append(rates[probe.OfferedRate], probe)
		}
	}
	var list []Probe
	for _, same := range rates {
		slices.SortFunc(same, func(a, b Probe) int { return cmp.Compare(a.P99Nanos, b.P99Nanos) })
		list = append(list, same[len(same)/2])
	}
	slices.SortFunc(list, func(a, b Probe) int { return cmp.Compare(a.OfferedRate, b.OfferedRate) })
	return list
}

// Knee is the rate at which p99 begins to rise steeply: with the logarithms of both scaled to 0 to 1, the point farthest below the
// straight line from the first to the last (Satopää et al., Finding a "Kneedle" in a Haystack, 2011). 0 where there are too few
// rates, or latency does not rise.
func (s *Search) Knee() float64 {
	points := s.byRate()
	if len(points) < kneePoints {
		return 0
	}
	first, last := points[0], points[len(points)-1]
	spanX, spanY := math.Log(last.OfferedRate/first.OfferedRate), math.Log(float64(last.P99Nanos)/float64(first.P99Nanos))
	if spanY <= 0 {
		return 0
	}
	knee, farthest := 0.0, 0.0
	for _, p := range points {
		below := math.Log(p.OfferedRate/first.OfferedRate)/spanX - math.Log(float64(p.P99Nanos)/float64(first.P99Nanos))/spanY
		if below > farthest {
			knee, farthest = p.OfferedRate, below
		}
	}
	return knee
}

// searchPlot draws p50 and p99 over the offered rate, with lines at the highest rate that held and at the knee.
func searchPlot(s *Search) template.HTML {
	points := s.byRate()
	if len(points) < 2 {
		return ""
	}
	p50, p99 := series{name: "response p50"}, series{name: "response p99"}
	low, high := math.Inf(1), 0.0
	for _, p := range points {
		p50.points = append(p50.points, point{p.OfferedRate, float64(p.P50Nanos)})
		p99.points = append(p99.points, point{p.OfferedRate, float64(p.P99Nanos)})
		low, high = min(low, float64(p.P50Nanos)), max(high, float64(p.P99Nanos))
	}
	x := rateAxis(points[0].OfferedRate, points[len(points)-1].OfferedRate)
	var marks []mark
	if s.Highest > 0 {
		marks = append(marks, mark{s.Highest, "limit", "holds up to " + formatCount(s.Highest)})
	}
	if knee := s.Knee(); knee > 0 {
		marks = append(marks, mark{knee, "knee", "knee " + formatCount(knee)})
	}
	return markedPlot("Latency against rate", x, decadeAxis(low, high), []series{p50, p99}, marks)
}

// rateAxis is logarithmic, with ticks at 1, 2 and 5 of each decade; both ends are drawn even where few ticks lie between.
func rateAxis(low, high float64) axis {
	a := axis{low: low, high: high, log: true, title: "offered records/s"}
	for decade := math.Pow(10, math.Floor(math.Log10(low))); decade <= high; decade *= 10 {
		for _, factor := range []float64{1, 2, 5} {
			if at := decade * factor; at >= low && at <= high {
				a.ticks = append(a.ticks, tick{at, formatCount(at)})
			}
		}
	}
	if len(a.ticks) < 2 {
		a.ticks = []tick{{low, formatCount(low)}, {high, formatCount(high)}}
	}
	return a
}

// markdownSearch writes the probes in the order of their rates.
func markdownSearch(b *strings.Builder, s *Search) {
	fmt.Fprintf(b, "\n\n%s.\n\n| Offered | Acked | p50 | p99 | State | Step |\n|---|---|---|---|---|---|\n", s.Sentence())
	for _, p := range s.Sorted() {
		fmt.Fprintf(b, "| %s |\n", strings.Join(p.Cells(), " | "))
	}
}

// Cells are a probe's words for tables.
func (p Probe) Cells() []string {
	state := p.State.String()
	if p.Reason != "" {
		state += ": " + cell(p.Reason)
	}
	return []string{FormatValue(p.OfferedRate, "records/s"), FormatValue(p.AckedRate, "records/s"), formatNanos(float64(p.P50Nanos)),
		formatNanos(float64(p.P99Nanos)), state, p.Step}
}

// Sorted are the probes in the order of their rates.
func (s *Search) Sorted() []Probe {
	return slices.SortedStableFunc(slices.Values(s.Probes), func(a, b Probe) int { return cmp.Compare(a.OfferedRate, b.OfferedRate) })
}
