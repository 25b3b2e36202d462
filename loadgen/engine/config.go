package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Method is the call that carries the load.
type Method string

// Methods.
const (
	Stream  Method = "stream"  // IngestionService.WriteStream
	Unary   Method = "unary"   // IngestionService.WriteBatch
	Metrics Method = "metrics" // MetricsService.LogMetric
)

// Layout is the form of a batch's body.
type Layout string

// Layouts.
const (
	Rows    Layout = "rows"
	Columns Layout = "columns"
)

// Client is how batches are encoded.
type Client string

// Clients; see the package comment.
const (
	Live     Client = "live"
	Prepared Client = "prepared"
)

// Arrivals is the distribution of the times between batches in an open-loop phase.
type Arrivals string

// Distributions of arrivals.
const (
	Uniform Arrivals = "uniform"
	Poisson Arrivals = "poisson"
)

// Tenant is who sends.
type Tenant struct {
	ID     string
	APIKey string // sent as a bearer token; empty sends none
}

// Phase is a part of a run with one rate. It ends when Duration has passed or Records have been sent, whichever comes first; 0
// means no bound. At least one must be set, unless a Script is played.
type Phase struct {
	Name     string
	Duration time.Duration
	Records  uint64
	// RecordsPerSecond is the rate of the open loop. 0 is the closed loop.
	RecordsPerSecond float64
	Arrivals         Arrivals // default: Uniform
	// Warmup phases are reported by themselves and left out of Result.Measured.
	Warmup bool
}

// Script is a fixed list of batches to send instead of synthetic ones, such as a recording. Its methods may be called
// concurrently.
type Script interface {
	record.Source
	// Len is the number of batches.
	Len() int
	// Batch returns batch i, and when it is due after the start of its phase. Its producer, sequence and time are set by
	// the engine. Due times must not fall.
	Batch(i int) (b record.Batch, due time.Duration)
	// Endpoints are the names that Batch.Endpoint indexes. They take the place of Config.Endpoints.
	Endpoints() []string
	// Reference tells the judge where to find the content again.
	Reference() ledger.Replay
}

// Config states a run.
type Config struct {
	Target string // address of the server, host:port
	// Dialer replaces the TCP dialer, for servers that move or that live in the same process.
	Dialer func(ctx context.Context, target string) (net.Conn, error)
	TLS    *tls.Config // nil: plain text

	Tenants   []Tenant
	Endpoints []string // of every tenant
	// Skew is the Zipf exponent over all (tenant, endpoint) pairs; 0 spreads evenly.
	Skew float64

	Method      Method // default: Stream
	Connections int    // default: 1
	Streams     int    // of each connection; callers, for unary methods. Default: 1
	InFlight    int    // unanswered batches of a stream, at most 128. Default: 4

	BatchRecords int    // records in a batch, or metrics in a request. Default: 1000
	Layout       Layout // default: Columns
	Client       Client // default: Prepared
	AckLevel     storagepb.AckLevel
	Spec         record.Spec
	Script       Script // nil: records of Spec. A script is always sent by the live client.

	Phases []Phase
	// Overrun bounds how long batches that are due may still be sent after the last phase's end. Default: 10 s. Those left then are
	// counted as unsent.
	Overrun time.Duration
	// RetryFor bounds how long a lane tries to learn an unknown outcome. Default: 30 s.
	RetryFor time.Duration

	RunID [16]byte // names the run's producers; random, chosen by the caller
	// FirstProducer is the lowest producer number. Runs whose event ids must never meet, because they run at the same
	// time, take different ranges.
	FirstProducer int
	// FirstTenant is the number of Tenants[0] in the ledger, for runs at the same time that share one.
	FirstTenant int
	Epoch       uint32 // of all producers
	Seed        uint64 // of arrivals and keys; Spec.Seed is that of the content

	// Ledger, where set, is told of everything sent and answered. The caller creates it (see Config.LedgerHeader) and closes it.
	Ledger *ledger.Writer
	// Progress, where set, is called each second, from one goroutine, and must not block.
	Progress func(Progress)
	Logger   *slog.Logger // default: discard
	// CoarseTimers waits with the runtime's timers alone. They wake an idle process up to a millisecond late, but also run in the
	// synthetic time of testing/synctest, in which the figures can be held against theory.
	CoarseTimers bool
}

// maxInFlight is the server's window of remembered batches.
const maxInFlight = 128

func (c Config) withDefaults() Config {
	c.Method = orDefault(c.Method, Stream)
	c.Layout = orDefault(c.Layout, Columns)
	c.Client = orDefault(c.Client, Prepared)
	c.Connections = orDefault(c.Connections, 1)
	c.Streams = orDefault(c.Streams, 1)
	c.InFlight = orDefault(c.InFlight, 4)
	c.BatchRecords = orDefault(c.BatchRecords, 1000)
	c.Overrun = orDefault(c.Overrun, 10*time.Second)
	c.RetryFor = orDefault(c.RetryFor, 30*time.Second)
	c.Spec = c.Spec.WithDefaults()
	if c.Script != nil {
		c.Endpoints, c.Client = c.Script.Endpoints(), Live
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	phases := make([]Phase, len(c.Phases))
	for i, p := range c.Phases {
		p.Arrivals = orDefault(p.Arrivals, Uniform)
		phases[i] = p
	}
	c.Phases = phases
	return c
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Validate says what is wrong with a configuration; unset fields take their defaults first.
func (c Config) Validate() error {
	c = c.withDefaults()
	return errors.Join(c.validateLoad(), c.validatePhases(), c.Spec.Validate())
}

func (c *Config) validateLoad() error {
	producers := c.Producers()
	switch {
	case c.Target == "":
		return errors.New("engine: no target")
	case len(c.Tenants) == 0 || c.FirstTenant < 0 || c.FirstTenant+len(c.Tenants) > ledger.MaxTenants:
		return fmt.Errorf("engine: between 1 and %d tenants are needed", ledger.MaxTenants)
	case len(c.Endpoints) == 0 || len(c.Endpoints) > ledger.MaxEndpoints:
		return fmt.Errorf("engine: between 1 and %d endpoints are needed", ledger.MaxEndpoints)
	case c.Method != Stream && c.Method != Unary && c.Method != Metrics:
		return fmt.Errorf("engine: unknown method %q", c.Method)
	case c.Layout != Rows && c.Layout != Columns:
		return fmt.Errorf("engine: unknown layout %q", c.Layout)
	case c.Client != Live && c.Client != Prepared:
		return fmt.Errorf("engine: unknown client %q", c.Client)
	case c.Connections < 1 || c.Streams < 1:
		return errors.New("engine: connections and streams must be at least 1")
	case c.InFlight < 1 || c.InFlight > maxInFlight:
		return fmt.Errorf("engine: in-flight bound must be between 1 and %d", maxInFlight)
	case c.BatchRecords < 1 || c.BatchRecords > record.MaxRecords:
		return fmt.Errorf("engine: batch size must be between 1 and %d", record.MaxRecords)
	case c.FirstProducer < 0 || c.FirstProducer+producers > record.MaxProducers:
		return fmt.Errorf("engine: %d producers from %d on are more than %d (connections x streams x tenants)",
			producers, c.FirstProducer, record.MaxProducers)
	case !(c.Skew >= 0):
		return errors.New("engine: skew must not be negative")
	case c.Script != nil && c.Method == Metrics:
		return errors.New("engine: a script needs a method for records")
	case c.Method == Metrics && (c.BatchRecords > record.MaxMetricRecords || c.FirstProducer+producers > record.MaxMetricProducers):
		return fmt.Errorf("engine: at most %d metrics in a request and %d producers can be told apart",
			record.MaxMetricRecords, record.MaxMetricProducers)
	}
	return nil
}

func (c *Config) validatePhases() error {
	if len(c.Phases) == 0 {
		return errors.New("engine: no phases")
	}
	for i, p := range c.Phases {
		switch {
		case p.Duration < 0 || !(p.RecordsPerSecond >= 0):
			return fmt.Errorf("engine: phase %d: duration and rate must not be negative", i)
		case p.Duration == 0 && p.Records == 0 && c.Script == nil:
			return fmt.Errorf("engine: phase %d has neither duration nor number of records", i)
		case p.Arrivals != Uniform && p.Arrivals != Poisson:
			return fmt.Errorf("engine: phase %d: unknown arrivals %q", i, p.Arrivals)
		case c.Script == nil && !p.Warmup && p.tooShortFor(c.BatchRecords):
			return fmt.Errorf("engine: phase %q: at %g records/s a batch of %d records takes longer than the %s of the phase; "+
				"use smaller batches, a higher rate or a longer phase", p.Name, p.RecordsPerSecond, c.BatchRecords, p.Duration)
		}
	}
	if c.Script != nil && len(c.Phases) != 1 {
		return errors.New("engine: a script is played in one phase")
	}
	return nil
}

// tooShortFor says whether an open-loop phase is over before one batch's worth of records is due.
func (p *Phase) tooShortFor(batchRecords int) bool {
	batch := float64(batchRecords)
	if p.Records > 0 {
		batch = min(batch, float64(p.Records))
	}
	return p.RecordsPerSecond > 0 && p.Duration > 0 && p.RecordsPerSecond*p.Duration.Seconds() < batch
}

// Producers is how many producer numbers the run takes, from FirstProducer on.
func (c Config) Producers() int {
	c = c.withDefaults()
	return c.Connections * c.Streams * len(c.Tenants)
}

// LedgerHeader returns the header of a ledger for this run.
func (c Config) LedgerHeader() ledger.Header {
	c = c.withDefaults()
	h := ledger.Header{
		RunID:     fmt.Sprintf("%x", c.RunID),
		Kind:      ledger.Records,
		Spec:      c.Spec,
		Endpoints: c.Endpoints,
		AckLevel:  byte(c.AckLevel),
	}
	for _, t := range c.Tenants {
		h.Tenants = append(h.Tenants, t.ID)
	}
	if c.Script != nil {
		reference := c.Script.Reference()
		h.Replay = &reference
	}
	if c.Method == Metrics {
		h.Kind, h.Service = ledger.Metrics, c.service()
	}
	return h
}

// service is the service name of a metrics run.
func (c *Config) service() string { return fmt.Sprintf("load-%x", c.RunID[:8]) }
