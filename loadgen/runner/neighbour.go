package runner

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/ingestor-project/ingestor/loadgen/engine"
)

// runLoads runs the scenario's load and that of its neighbour, where it has one, beside each other. It returns when both have ended. Where
// one fails the other is ended.
func (a *attempt) runLoads(ctx context.Context, config engine.Config) error {
	if a.scenario.Neighbour == nil {
		var err error
		a.load, err = engine.Run(ctx, config)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	neighbour := a.scenario.NeighbourConfig(config)
	a.giveKeys(neighbour.Tenants)
	var err, neighbourErr error
	var both sync.WaitGroup
	both.Go(func() {
		if a.load, err = engine.Run(ctx, config); err != nil {
			cancel()
		}
	})
	both.Go(func() {
		if a.neighbour, neighbourErr = engine.Run(ctx, neighbour); neighbourErr != nil {
			cancel()
		}
	})
	both.Wait()
	return errors.Join(err, neighbourErr)
}

// tenants are those of the scenario's load, and then those of its neighbour.
func (a *attempt) tenants(config engine.Config) []engine.Tenant {
	if a.scenario.Neighbour == nil {
		return config.Tenants
	}
	return slices.Concat(config.Tenants, a.scenario.NeighbourConfig(config).Tenants)
}

// giveKeys sets the API keys of tenants of the server.
func (a *attempt) giveKeys(tenants []engine.Tenant) {
	for i := range tenants {
		tenants[i].APIKey = a.server.Key(tenants[i].ID)
	}
}

// addNeighbourMetrics adds what the neighbour's load shows.
func (a *attempt) addNeighbourMetrics(metrics map[string]float64) {
	if a.neighbour == nil {
		return
	}
	measured := &a.neighbour.Measured
	failed := int64(0)
	for _, count := range errorCounts(measured) {
		failed += count
	}
	metrics["neighbour_acked_records_per_second"] = measured.AckedRecordsPerSecond
	metrics["neighbour_failed_batches"] = float64(failed)
}
