package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestor-project/ingestor/ingestor/internal/events"
)

// Stage is what records can reach: an event's kind, and for events.Flushed the name of the sink.
type Stage struct {
	Kind events.Kind
	Sink string
}

// Position says that the records up to LSN have reached a stage. 0: none has.
type Position struct {
	Stage
	LSN uint64
}

// Message is the value of a Kafka message, as JSON.
type Message struct {
	// Log is the ID of the log, in hexadecimal digits; LSNs of different logs cannot be compared.
	Log      string `json:"log"`
	Kind     string `json:"kind"`
	Sink     string `json:"sink,omitempty"`
	FirstLSN uint64 `json:"first_lsn"`
	LastLSN  uint64 `json:"last_lsn"`
	// Time is when the position was looked at.
	Time time.Time `json:"time"`
}

// Dependencies are what a Publisher is made of.
type Dependencies struct {
	LogID string
	// Positions returns how far all stages are, in a fixed order. It is called by the publisher's goroutine and by Close.
	Positions func() []Position
	// Events wakes the publisher.
	Events     *events.Bus
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Publisher sends messages. The order of its life: Start, Close.
type Publisher struct {
	config       Config
	deps         Dependencies
	client       *kgo.Client
	subscription *events.Subscription
	cancel       context.CancelFunc
	done         sync.WaitGroup

	// announced is what the brokers have acknowledged of each stage. Of the goroutine, then of Close.
	announced map[Stage]uint64

	messages prometheus.Counter
	failures prometheus.Counter
	failing  prometheus.Gauge
}

const (
	// attemptTimeout ends an attempt that the brokers do not answer, so that it is seen to fail.
	attemptTimeout = 10 * time.Second
	retryMin       = 100 * time.Millisecond
	retryMax       = 10 * time.Second
)

// Start makes the client and begins to publish. It does not wait for the brokers: they may be away.
func Start(config Config, deps Dependencies) (*Publisher, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	options, err := config.options()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(options,
		kgo.ClientID("ingestor"),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(attemptTimeout),
		// Otherwise a broker that has gone away in the midst of a request would hold up Close. What may be there already is sent
		// again: consumers take the highest position.
		kgo.AllowIdempotentProduceCancellation(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	p := &Publisher{config: config, deps: deps, client: client, announced: make(map[Stage]uint64)}
	if err := p.register(); err != nil {
		client.Close()
		return nil, err
	}
	// One event is as good as many: the publisher looks for itself.
	p.subscription, err = deps.Events.Subscribe(1, events.NewData, events.Flushed, events.Committed)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("kafka: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.done.Go(func() { p.run(ctx) })
	return p, nil
}

func (p *Publisher) register() error {
	p.messages = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ingestor_kafka_messages_total", Help: "Messages that the brokers have acknowledged.",
	})
	p.failures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ingestor_kafka_failures_total", Help: "Failed attempts to send messages.",
	})
	p.failing = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ingestor_kafka_failing", Help: "1 while the last attempt has failed.",
	})
	var errs []error
	for _, c := range []prometheus.Collector{p.messages, p.failures, p.failing} {
		errs = append(errs, p.deps.Registerer.Register(c))
	}
	return errors.Join(errs...)
}

// Close says the last positions, as far as the brokers take them before ctx ends, and stops. What was not announced is no loss: the
// next start announces it.
func (p *Publisher) Close(ctx context.Context) {
	p.subscription.Close()
	p.cancel()
	p.done.Wait()
	if err := p.announce(ctx); err != nil {
		p.deps.Logger.Warn("the last positions are not in Kafka; the next start announces them", "error", err)
	}
	p.client.Close()
}

// run is the publisher's goroutine.
func (p *Publisher) run(ctx context.Context) {
	failures := 0
	for {
		pause := p.config.Interval
		switch err := p.announce(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failures == 0 {
				p.deps.Logger.Warn("Kafka takes no messages, will try again", "error", err)
			}
			failures++
			pause = backoff(failures)
			p.failures.Inc()
			p.failing.Set(1)
		default:
			if failures > 0 {
				p.deps.Logger.Info("Kafka takes messages again", "failures", failures)
			}
			failures = 0
			p.failing.Set(0)
		}
		if !wait(ctx, pause) {
			return
		}
		if failures > 0 {
			continue
		}
		select {
		case <-p.subscription.Events():
		case <-ctx.Done():
			return
		}
	}
}

// wait returns after d, or false where ctx ends before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// backoff returns the pause after the n-th failure in a row: between half and the whole of a time that doubles.
func backoff(n int) time.Duration {
	d := retryMin
	for ; n > 1 && d < retryMax; n-- {
		d *= 2
	}
	d = min(d, retryMax)
	return d/2 + rand.N(d/2+1)
}

// announce sends a message for each stage that has come further than what was announced.
func (p *Publisher) announce(ctx context.Context) error {
	positions := p.deps.Positions()
	now := time.Now().UTC()
	var records []*kgo.Record
	sent := make(map[*kgo.Record]Position)
	for _, position := range positions {
		announced := p.announced[position.Stage]
		if position.LSN <= announced {
			continue
		}
		value, err := json.Marshal(Message{
			Log: p.deps.LogID, Kind: position.Kind.String(), Sink: position.Sink,
			FirstLSN: announced + 1, LastLSN: position.LSN, Time: now,
		})
		if err != nil {
			return fmt.Errorf("kafka: %w", err)
		}
		record := &kgo.Record{Key: []byte(p.deps.LogID), Value: value}
		records, sent[record] = append(records, record), position
	}
	if len(records) == 0 {
		return nil
	}
	var failed error
	for _, result := range p.client.ProduceSync(ctx, records...) { // in the order of their completion
		if result.Err != nil {
			failed = fmt.Errorf("kafka: topic %s: %w", p.config.Topic, result.Err)
			continue
		}
		position := sent[result.Record]
		p.announced[position.Stage] = position.LSN
		p.messages.Inc()
	}
	return failed
}
