package runner

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// Console shows the progress of a run: on a terminal one line that changes each second, elsewhere plain lines a few seconds apart. Safe for
// concurrent use.
type Console struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	now      func() time.Time

	label     string
	remaining time.Duration // of the run's load after the present repetition
	length    time.Duration // of the present repetition's load
	lastPlain time.Time
}

// plainInterval is the time between progress lines that are not on a terminal.
const plainInterval = 5 * time.Second

// NewConsole returns a console for a run of these scenarios.
func NewConsole(out io.Writer, terminal bool, list []*scenarios.Scenario) *Console {
	c := &Console{out: out, terminal: terminal, now: time.Now}
	for _, s := range list {
		c.remaining += loadLength(s) * time.Duration(s.Repetitions*len(s.Variations()))
	}
	return c
}

func loadLength(s *scenarios.Scenario) time.Duration {
	total := time.Duration(0)
	for _, phase := range s.Load.Phases {
		total += phase.Duration
	}
	return total + time.Duration(len(s.Ceilings))*(s.CeilingLength()+ceilingWarmUp(s))
}

func (c *Console) begin(s *scenarios.Scenario, index int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.label = s.Name
	if s.Repetitions > 1 {
		c.label = fmt.Sprintf("%s %d/%d", s.Name, index+1, s.Repetitions)
	}
	c.length = loadLength(s)
	c.remaining -= c.length
	c.lastPlain = c.now()
	c.show("starting")
}

// Expect says how long the load takes that comes, where no scenario does.
func (c *Console) Expect(length time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.length = length
}

// Tick shows a progress report of the engine.
func (c *Console) Tick(p engine.Progress) { c.tick(p, unknownBacklog) }

// unknownBacklog stands for the backlog of a server that cannot be asked.
const unknownBacklog = -1

// tick shows a progress report, and how many records wait in the server's log to be flushed.
func (c *Console) tick(p engine.Progress, backlog int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.now().Sub(c.lastPlain) >= plainInterval
	if !c.terminal && !due {
		return
	}
	c.lastPlain = c.now()
	text := fmt.Sprintf("%s: %s acked, p50 %s, p99 %s, %d in flight", p.Phase,
		results.FormatValue(float64(p.AckedRecords), "records/s"),
		results.FormatValue(float64(p.ResponseP50), "ns"), results.FormatValue(float64(p.ResponseP99), "ns"), p.InFlight)
	if backlog != unknownBacklog {
		text += fmt.Sprintf(", backlog %s", results.FormatValue(float64(backlog), "records"))
	}
	if p.RefusedTotal > 0 {
		text += fmt.Sprintf(", %d batches refused", p.RefusedTotal)
	}
	if left := max(0, c.length-p.Elapsed) + c.remaining; left > 0 {
		text += fmt.Sprintf(", %s of load left", left.Round(time.Second))
	}
	if p.LastErrorText != "" {
		text += " (" + p.LastErrorText + ")"
	}
	c.show(text)
}

// step says what is being done now.
func (c *Console) step(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.show(text)
}

// line prints a line that stays.
func (c *Console) line(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	fmt.Fprintln(c.out, text)
}

func (c *Console) judged(s *results.Scenario) {
	text := fmt.Sprintf("%-18s %s", s.Name, s.State)
	if len(s.Reasons) > 0 {
		text += ": " + s.Reasons[0]
	}
	c.line(text)
}

const terminalColumns = 118

// show replaces the changing line, or prints a plain one.
func (c *Console) show(text string) {
	if c.label != "" {
		text = c.label + ": " + text
	}
	text = strings.ReplaceAll(text, "\n", " ")
	if !c.terminal {
		fmt.Fprintln(c.out, text)
		return
	}
	c.clear()
	fmt.Fprint(c.out, text[:min(len(text), terminalColumns)])
}

// Clear empties the changing line, so that something else can be printed.
func (c *Console) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}

// clear empties the changing line.
func (c *Console) clear() {
	if c.terminal {
		fmt.Fprint(c.out, "\r\x1b[K")
	}
}
