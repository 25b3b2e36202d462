package crashtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// This file is what tests need that break the surroundings of a server and not the server.

// During lets fn work while batches come that may not be lost: after the first acked ones, and until more were acked after it. Each generator
// sends batchesPerSecond: a database takes far fewer records than the log. What is unanswered at the end stays unknown.
func (c *Campaign) During(ctx context.Context, batchesPerSecond float64, fn func() error) error {
	c.round = nil
	shapes := c.durableShapes()
	for i := range shapes {
		shapes[i].rate = batchesPerSecond * float64(shapes[i].BatchRecords)
	}
	if err := c.startLoad(ctx, shapes); err != nil {
		return err
	}
	err := c.AwaitAcks(roundAcks)
	if err == nil {
		err = fn()
	}
	if err == nil {
		err = c.AwaitAcks(roundAcks)
	}
	return errors.Join(err, c.stopLoad())
}

// Crash lets crash end the process under a load, and judges what is left before anything recovers from it.
func (c *Campaign) Crash(ctx context.Context, crash func() error) error { return c.crashed(ctx, crash) }

// AwaitClosed returns when happened is closed, as Await does.
func (c *Campaign) AwaitClosed(happened <-chan struct{}) error {
	return c.Await(func() (bool, error) {
		select {
		case <-happened:
			return true, nil
		default:
			return false, nil
		}
	})
}

// Target is where a load of the caller's own goes: the server's address and its tenants.
func (c *Campaign) Target() (address string, list []engine.Tenant) {
	for _, tenant := range tenants {
		list = append(list, engine.Tenant{ID: tenant, APIKey: c.server.Key(tenant)})
	}
	return c.server.GRPCAddress(), list
}

// Ledgers are those of all loads so far.
func (c *Campaign) Ledgers() []string { return slices.Clone(c.ledgers) }

// SetWrap puts a command before the server's at the next restarts.
func (c *Campaign) SetWrap(argv []string) { c.server.SetWrap(argv) }

// RestartWith is Restart with another configuration, from now on.
func (c *Campaign) RestartWith(ctx context.Context, config map[string]any) error {
	c.startedAt = time.Now()
	return c.server.RestartWith(ctx, config)
}

// PID is the running server's.
func (c *Campaign) PID() int { return c.server.PID() }

// Usage is what the running server has cost since its start.
func (c *Campaign) Usage() (serverproc.Usage, error) { return c.server.Usage() }

// MetricBy is a metric of the running server by the values of one of its labels.
func (c *Campaign) MetricBy(ctx context.Context, name, label string) (map[string]float64, error) {
	families, err := c.server.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	for _, m := range families[name].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label {
				values[l.GetValue()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("the server has no metric %s with a label %s", name, label)
	}
	return values, nil
}

// SinkMetric is a metric of one sink of the running server.
func (c *Campaign) SinkMetric(ctx context.Context, name, sink string) (float64, error) {
	values, err := c.MetricBy(ctx, name, "sink")
	if err != nil {
		return 0, err
	}
	value, ok := values[sink]
	if !ok {
		return 0, fmt.Errorf("the server has no metric %s of the sink %s", name, sink)
	}
	return value, nil
}
