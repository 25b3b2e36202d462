package runner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/machine"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// ceilingWarmUp is how long the load of a ceiling runs before it is measured.
func ceilingWarmUp(s *scenarios.Scenario) time.Duration { return s.CeilingLength() / 4 }

// takeCeilings measures what the scenario wants to be compared with. The server has ended, so nothing competes.
func (a *attempt) takeCeilings(ctx context.Context) error {
	if a.failure != "" {
		return nil
	}
	for _, kind := range a.scenario.Ceilings {
		a.run.options.Console.step("ceiling: " + strings.ReplaceAll(kind, "_", " "))
		take := func() ([]results.Ceiling, error) { return a.serverCeiling(ctx, kind) }
		switch kind {
		case results.RawDisk:
			take = func() ([]results.Ceiling, error) { return a.rawDisk(ctx) }
		case results.ReadLog:
			take = func() ([]results.Ceiling, error) { return a.readLog(ctx) }
		}
		before, err := machine.ReadCPUTimes()
		if err != nil {
			return err
		}
		found, err := take()
		if err != nil {
			return fmt.Errorf("ceiling %s: %w", kind, err)
		}
		after, err := machine.ReadCPUTimes()
		if err != nil {
			return err
		}
		for _, ceiling := range found {
			ceiling.Kind, ceiling.StealPct = kind, after.StealPctSince(before)
			a.ceilings = append(a.ceilings, ceiling)
		}
	}
	return nil
}

// serverCeiling puts the load, as a closed loop, on another server. The client keeps a ledger, because that costs it something
// in the real run too; nobody reads it.
func (a *attempt) serverCeiling(ctx context.Context, kind string) (found []results.Ceiling, err error) {
	dir := filepath.Join(a.dir, kind)
	config := ceilingLoad(a.scenario, kind)
	options := serverproc.Options{
		Binary: a.run.options.Server, Dir: dir, Config: a.scenario.Server, StartTimeout: startTimeout,
		AckRecords: uint32(config.BatchRecords),
		Command: map[string]serverproc.Command{
			results.NullSink: serverproc.NullSink, results.EmptyHandler: serverproc.EmptyHandler, results.SinglePair: serverproc.Serve,
		}[kind],
	}
	for _, tenant := range config.Tenants {
		options.Tenants = append(options.Tenants, tenant.ID)
	}
	server, err := serverproc.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close(), os.RemoveAll(dir)) }()
	config.Target = server.GRPCAddress()
	for i := range config.Tenants {
		config.Tenants[i].APIKey = server.Key(config.Tenants[i].ID)
	}
	if config.Ledger, err = ledger.Create(filepath.Join(dir, "ledger"), config.LedgerHeader()); err != nil {
		return nil, err
	}
	load, err := engine.Run(ctx, config)
	if err = errors.Join(err, config.Ledger.Close()); err != nil {
		return nil, err
	}
	measured := &load.Measured
	if measured.AckedWithin.Records == 0 {
		return nil, fmt.Errorf("nothing was acked: %v", errorCounts(measured))
	}
	response, err := results.NewHistogram(measured.Response)
	if err != nil {
		return nil, err
	}
	return []results.Ceiling{{
		AckLevel: measured.AckedAt.String(), DurationNanos: int64(measured.Duration), RecordsPerSecond: measured.AckedRecordsPerSecond,
		Errors: errorCounts(measured), Response: response,
	}}, nil
}

// ceilingLoad is the scenario's load as a closed loop.
func ceilingLoad(s *scenarios.Scenario, kind string) engine.Config {
	load := s.Load
	if kind == results.SinglePair {
		load.Tenants, load.Endpoints, load.Skew = 1, 1, 0
	}
	config := load.EngineConfig()
	config.Phases = []engine.Phase{
		{Name: "warm-up", Duration: ceilingWarmUp(s), Warmup: true},
		{Name: kind, Duration: s.CeilingLength()},
	}
	// crypto/rand.Read never fails.
	_, _ = rand.Read(config.RunID[:])
	return config
}

// rawDisk makes batches of the size that the load had durable, with and without O_DIRECT.
func (a *attempt) rawDisk(ctx context.Context) ([]results.Ceiling, error) {
	sent, bytes := uint64(0), uint64(0)
	for i := range a.load.Phases {
		sent += a.load.Phases[i].Sent.Batches
		bytes += a.load.Phases[i].WireBytes
	}
	var found []results.Ceiling
	for _, mode := range []string{"direct", "page cache"} {
		appends, err := machine.ProbeAppend(ctx, a.dir, int(bytes/max(1, sent)), mode == "direct", a.scenario.CeilingLength()/2)
		if errors.Is(err, machine.ErrNoDirectIO) {
			continue
		} else if err != nil {
			return nil, err
		}
		latency, err := results.NewHistogram(appends.Latency)
		if err != nil {
			return nil, err
		}
		records := float64(appends.Latency.TotalCount()) * float64(a.scenario.Load.BatchRecords)
		found = append(found, results.Ceiling{
			Mode: mode, WriteBytes: int64(appends.WriteBytes), DurationNanos: int64(appends.Elapsed),
			RecordsPerSecond: records / appends.Elapsed.Seconds(), Response: latency,
		})
	}
	return found, nil
}

// readLog reads the log that the next start will replay.
func (a *attempt) readLog(ctx context.Context) ([]results.Ceiling, error) {
	segments, err := filepath.Glob(filepath.Join(a.server.DataDir(), "wal", "*.wal"))
	if err != nil {
		return nil, err
	}
	reads, err := machine.ProbeRead(ctx, segments)
	if err != nil {
		return nil, err
	}
	latency, err := results.NewHistogram(reads.Latency)
	return []results.Ceiling{{ReadBytes: reads.Bytes, DurationNanos: int64(reads.Elapsed), Response: latency}}, err
}

// disturbed lists ceilings during which the host took away more CPU than the rules allow.
func disturbed(rules scenarios.Validity, ceilings []results.Ceiling) []string {
	var broken []string
	for _, ceiling := range ceilings {
		if limit := rules.MaxStealPct; limit != nil && ceiling.StealPct > *limit {
			broken = append(broken, fmt.Sprintf("the host took away %.1f%% of the CPU while the ceiling %s was taken, more than %.1f%%",
				ceiling.StealPct, ceiling.Kind, *limit))
		}
	}
	return broken
}
