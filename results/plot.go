package results

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// The plots are plain SVG with classes instead of colours; the page's style sheet gives them colours for light and dark.

const (
	plotWidth    = 560.0
	plotHeight   = 260.0
	marginLeft   = 64.0
	marginRight  = 16.0
	marginTop    = 34.0
	marginBottom = 34.0
)

type point struct{ x, y float64 }

type series struct {
	name   string
	points []point
}

type tick struct {
	at    float64
	label string
}

// axis maps values to a length. With log set it maps their decimal logarithm.
type axis struct {
	low, high float64
	log       bool
	ticks     []tick
	title     string
}

func (a axis) place(value, from, to float64) float64 {
	low, high := a.low, a.high
	if a.log {
		value, low, high = math.Log10(max(value, a.low)), math.Log10(low), math.Log10(high)
	}
	return from + (min(max(value, low), high)-low)/(high-low)*(to-from)
}

// mark is a vertical line with a name.
type mark struct {
	at          float64
	class, name string
}

// linePlot draws up to three series over common axes, each with its name at the top.
func linePlot(label string, x, y axis, lines []series) template.HTML {
	return markedPlot(label, x, y, lines, nil)
}

// markedPlot is linePlot with vertical lines, whose names stand beside them, one below the other.
func markedPlot(label string, x, y axis, lines []series, marks []mark) template.HTML {
	var b strings.Builder
	openSVG(&b, label, plotHeight)
	drawAxes(&b, x, y)
	for _, m := range marks {
		at := placeX(x, m.at)
		fmt.Fprintf(&b, `<line class="%s" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, m.class, at, at, marginTop, plotHeight-marginBottom)
	}
	for i, m := range marks {
		at := placeX(x, m.at)
		anchor, offset := "start", 5.0
		if at > plotWidth/2 {
			anchor, offset = "end", -5.0
		}
		fmt.Fprintf(&b, `<text class="legend halo" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`, anchor, at+offset, marginTop+14+16*float64(i), html.EscapeString(m.name))
	}
	legendX := marginLeft
	for i, line := range lines {
		fmt.Fprintf(&b, `<polyline class="line s%d" points="`, i+1)
		for _, p := range line.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", placeX(x, p.x), placeY(y, p.y))
		}
		b.WriteString(`"/>`)
		fmt.Fprintf(&b, `<line class="line s%d" x1="%.1f" x2="%.1f" y1="10" y2="10"/>`, i+1, legendX, legendX+16)
		fmt.Fprintf(&b, `<text class="legend" x="%.1f" y="14">%s</text>`, legendX+22, html.EscapeString(line.name))
		legendX += 40 + 6.6*float64(len(line.name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

func placeX(a axis, value float64) float64 { return a.place(value, marginLeft, plotWidth-marginRight) }

func placeY(a axis, value float64) float64 { return a.place(value, plotHeight-marginBottom, marginTop) }

func openSVG(b *strings.Builder, label string, height float64) {
	fmt.Fprintf(b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, plotWidth, height, html.EscapeString(label))
}

func drawAxes(b *strings.Builder, x, y axis) {
	for _, t := range y.ticks {
		at := placeY(y, t.at)
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, marginLeft, plotWidth-marginRight, at, at)
		fmt.Fprintf(b, `<text class="tick" text-anchor="end" x="%.1f" y="%.1f">%s</text>`, marginLeft-8, at+4, html.EscapeString(t.label))
	}
	base := plotHeight - marginBottom
	fmt.Fprintf(b, `<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, marginLeft, plotWidth-marginRight, base, base)
	for _, t := range x.ticks {
		fmt.Fprintf(b, `<text class="tick" text-anchor="middle" x="%.1f" y="%.1f">%s</text>`, placeX(x, t.at), base+16, html.EscapeString(t.label))
	}
	fmt.Fprintf(b, `<text class="tick" text-anchor="end" x="%.1f" y="%.1f">%s</text>`, plotWidth-marginRight, base+30, html.EscapeString(x.title))
}

// strip is one row of a dot plot: a name, and the repetitions' figures over the limit.
type strip struct {
	name string
	dots []dot
}

type dot struct {
	ratio  float64
	hollow bool
	title  string
}

const (
	stripHeight = 30.0
	stripLabel  = 210.0
)

// dotPlot draws one row for each objective. The horizontal position is the figure as a multiple of the limit, on a
// logarithmic scale, so that rows with different units can share it; the limit is the vertical line.
func dotPlot(label string, rows []strip) template.HTML {
	spread := 2.0
	for _, row := range rows {
		for _, d := range row.dots {
			if d.ratio > 0 {
				spread = max(spread, d.ratio, 1/d.ratio)
			}
		}
	}
	spread = min(spread*1.3, 1000)
	x := axis{low: 1 / spread, high: spread, log: true}
	place := func(ratio float64) float64 { return x.place(ratio, stripLabel, plotWidth-marginRight) }
	height := stripHeight*float64(len(rows)) + 40
	var b strings.Builder
	openSVG(&b, label, height)
	fmt.Fprintf(&b, `<line class="limit" x1="%.1f" x2="%.1f" y1="18" y2="%.1f"/>`, place(1), place(1), height-18)
	fmt.Fprintf(&b, `<text class="legend" text-anchor="middle" x="%.1f" y="12">limit</text>`, place(1))
	for i, row := range rows {
		y := 18 + stripHeight*(float64(i)+0.5)
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, stripLabel, plotWidth-marginRight, y, y)
		fmt.Fprintf(&b, `<text class="legend" text-anchor="end" x="%.1f" y="%.1f">%s</text>`, stripLabel-10, y+4, html.EscapeString(row.name))
		for _, d := range row.dots {
			class := "dot"
			if d.hollow {
				class = "dot hollow"
			}
			fmt.Fprintf(&b, `<circle class="%s" cx="%.1f" cy="%.1f" r="5"><title>%s</title></circle>`, class, place(d.ratio), y, html.EscapeString(d.title))
		}
	}
	for _, t := range ratioTicks(spread) {
		fmt.Fprintf(&b, `<text class="tick" text-anchor="middle" x="%.1f" y="%.1f">%s</text>`, place(t.at), height-4, t.label)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

func ratioTicks(spread float64) []tick {
	ticks := []tick{{1, "1x"}}
	for _, ratio := range []float64{2, 10, 100, 1000} {
		if ratio <= spread && (ratio > 2 || spread < 10) {
			ticks = append(ticks, tick{ratio, fmt.Sprintf("%gx", ratio)}, tick{1 / ratio, fmt.Sprintf("%gx", 1/ratio)})
		}
	}
	return ticks
}

// linearAxis starts at zero and has about four round ticks.
func linearAxis(high float64, title string, format func(float64) string) axis {
	if high <= 0 {
		high = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(high/4)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if high/(step*factor) <= 5 {
			step *= factor
			break
		}
	}
	a := axis{high: math.Ceil(high/step) * step, title: title}
	for i := 0; float64(i)*step <= a.high*1.0001; i++ {
		a.ticks = append(a.ticks, tick{float64(i) * step, format(float64(i) * step)})
	}
	return a
}

// decadeAxis is logarithmic, from the decade below low to the one above high. Values are nanoseconds.
func decadeAxis(low, high float64) axis {
	low = math.Pow(10, math.Floor(math.Log10(max(low, 1))))
	high = math.Pow(10, math.Ceil(math.Log10(max(high, low*10))))
	a := axis{low: low, high: high, log: true}
	for at := low; at <= high*1.0001; at *= 10 {
		a.ticks = append(a.ticks, tick{at, formatDecade(at)})
	}
	return a
}

func formatDecade(nanos float64) string {
	switch {
	case nanos < 1e3:
		return fmt.Sprintf("%.0f ns", nanos)
	case nanos < 1e6:
		return fmt.Sprintf("%.0f us", nanos/1e3)
	case nanos < 1e9:
		return fmt.Sprintf("%.0f ms", nanos/1e6)
	default:
		return fmt.Sprintf("%.0f s", nanos/1e9)
	}
}
