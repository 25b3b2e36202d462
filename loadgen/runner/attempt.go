package runner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/machine"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// attempt is one repetition under way.
type attempt struct {
	run      *run
	scenario *scenarios.Scenario
	index    int
	dir      string

	server  *serverproc.Server
	config  map[string]any // the server's
	dsn     string
	sampler *sampler
	load    *engine.Result
	// neighbour is nil where the scenario has none.
	neighbour *engine.Result
	steal     float64            // in percent, while the load ran
	throttled machine.Throttling // while the load ran
	busy      time.Duration      // CPU time of everything on the machine, while the load ran
	stages    map[string]*hdrhistogram.Histogram
	recovery  time.Duration // the longest restart
	// recoveryRSSBytes is the most memory that the server took when it flushed after another start; 0 where there was none.
	recoveryRSSBytes int64
	drain            time.Duration
	exit             serverproc.ExitStatus
	failure          string

	interrupted bool  // the user ended the load early
	leftInLog   int64 // acked records that were flushed only after another start
	ceilings    []results.Ceiling
}

func (a *attempt) ledgerPath() string { return filepath.Join(a.dir, "ledger") }

// carryOut returns nil without an error where ctx ended before anything was measured. Where it ended meanwhile, what was measured until
// then is verified and returned, and does not count.
func (a *attempt) carryOut(ctx context.Context) (*results.Repetition, error) {
	config := a.scenario.Load.EngineConfig()
	// crypto/rand.Read never fails.
	_, _ = rand.Read(config.RunID[:])
	header, err := a.ledgerHeader(&config)
	if err != nil {
		return nil, err
	}
	for _, tenant := range a.tenants(config)[len(config.Tenants):] {
		header.Tenants = append(header.Tenants, tenant.ID)
	}
	if err := a.start(ctx, config); err != nil {
		return nil, ignoreInterrupt(ctx, err)
	}
	loadErr := a.putLoad(ctx, config, header)
	if a.interrupted = a.cutShort(ctx); a.interrupted {
		// What was measured until now is read back and kept; a second interrupt ends the program.
		ctx, loadErr = context.WithoutCancel(ctx), nil
		a.run.options.Console.line("interrupted: draining, and reading back what was acked until now")
	}
	if loadErr == nil {
		a.checkAckLevel(config)
	}
	if loadErr == nil && a.failure == "" {
		a.stages, loadErr = a.server.Stages(ctx)
	}
	a.stop(ctx)
	if loadErr = errors.Join(loadErr, a.server.Close()); loadErr != nil {
		return nil, ignoreInterrupt(ctx, loadErr)
	}
	if !a.interrupted {
		if err := a.takeCeilings(ctx); err != nil {
			return nil, ignoreInterrupt(ctx, err)
		}
	}
	if ctx.Err() != nil {
		return nil, nil
	}
	a.flushLater(ctx)
	if ctx.Err() != nil {
		return nil, nil
	}
	a.run.options.Console.step("reading everything back")
	verification, err := a.judge(ctx)
	if err != nil {
		return nil, ignoreInterrupt(ctx, err)
	}
	return a.measure(verification)
}

// cutShort tells whether the user ended the load after something had been measured.
func (a *attempt) cutShort(ctx context.Context) bool {
	return ctx.Err() != nil && a.failure == "" && a.load != nil && a.load.Measured.AckedWithin.Records > 0 && a.server.Running()
}

// checkAckLevel holds the server to the level that it was asked for.
func (a *attempt) checkAckLevel(config engine.Config) {
	if a.load == nil || a.failure != "" {
		return
	}
	if below := a.load.Measured.AckedAt.Below(config.AckLevel); below.Batches > 0 {
		a.failure = fmt.Sprintf("%d batches were acked at a lower level than %s, which was asked for: %s",
			below.Batches, engine.LevelName(config.AckLevel), a.load.Measured.AckedAt)
	}
}

// start starts the server for the load's tenants.
func (a *attempt) start(ctx context.Context, config engine.Config) error {
	options := serverproc.Options{
		Binary: a.run.options.Server, Dir: filepath.Join(a.dir, "server"), Config: a.scenario.Server, StartTimeout: startTimeout,
	}
	for _, tenant := range a.tenants(config) {
		options.Tenants = append(options.Tenants, tenant.ID)
	}
	if a.scenario.Database == scenarios.Postgres {
		var err error
		name := fmt.Sprintf("bench_%x", config.RunID[:6])
		if a.dsn, err = a.run.database.CreateDatabase(ctx, name); err != nil {
			return err
		}
		options.Config = withDSN(options.Config, a.dsn)
	}
	a.config = options.Config
	var err error
	a.server, err = serverproc.Start(ctx, options)
	return err
}

// withDSN returns the config with the database's name set; the scenario's own is not changed.
func withDSN(config map[string]any, dsn string) map[string]any {
	timescale := map[string]any{"dsn": dsn}
	if given, ok := config["timescale"].(map[string]any); ok {
		for key, value := range given {
			timescale[key] = value
		}
	}
	merged := map[string]any{"timescale": timescale}
	for key, value := range config {
		if key != "timescale" {
			merged[key] = value
		}
	}
	return merged
}

// putLoad runs the engine beside the conductor. A server that ended by itself is a finding, not an error.
func (a *attempt) putLoad(ctx context.Context, config engine.Config, header ledger.Header) (err error) {
	config.Target = a.server.GRPCAddress()
	a.giveKeys(config.Tenants)
	if config.Ledger, err = ledger.Create(a.ledgerPath(), header); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Ledger.Close()) }()
	a.sampler = newSampler(a.server)
	config.Progress = func(p engine.Progress) {
		a.sampler.sample(p)
		a.run.options.Console.tick(p, a.sampler.backlogNow)
	}
	before, err := machine.ReadCPUTimes()
	if err != nil {
		return err
	}
	throttled, err := machine.ReadThrottling()
	if err != nil {
		return err
	}

	loadContext, endLoad := context.WithCancel(ctx)
	defer endLoad()
	conducting, stopConducting := context.WithCancel(ctx)
	var conductor sync.WaitGroup
	conductor.Go(func() {
		if failure := a.conduct(conducting); failure != "" {
			a.failure = failure
			endLoad()
		}
	})
	err = a.runLoads(loadContext, config)
	stopConducting()
	conductor.Wait()
	a.sampler.finish()
	if a.failure != "" {
		err = nil
	}
	after, timesErr := machine.ReadCPUTimes()
	a.steal, a.busy = after.StealPctSince(before), after.BusySince(before)
	throttledAfter, throttledErr := machine.ReadThrottling()
	a.throttled = throttledAfter.Since(throttled)
	if errors.Is(err, engine.ErrGaveUp) {
		a.failure, err = "batches stayed without an answer: "+err.Error(), nil
	}
	return errors.Join(err, timesErr, throttledErr)
}

// conduct carries out the scenario's actions in time. It returns what the server did wrong, if anything, and ends with ctx.
func (a *attempt) conduct(ctx context.Context) (failure string) {
	start := time.Now()
	if warmUp := a.scenario.Load.WarmUp(); warmUp > 0 {
		if failure := a.waitUntil(ctx, start.Add(warmUp), true); failure != "" || ctx.Err() != nil {
			return failure
		}
		if err := a.server.ResetStages(ctx); err != nil && ctx.Err() == nil {
			return "the stage histograms could not be reset: " + err.Error()
		}
	}
	running := true
	for _, action := range a.scenario.Actions {
		if failure := a.waitUntil(ctx, start.Add(action.At), running); failure != "" || ctx.Err() != nil {
			return failure
		}
		if failure := a.act(ctx, action.Do); failure != "" {
			return failure
		}
		running = action.Do == scenarios.Restart
	}
	return a.waitUntil(ctx, time.Time{}, running)
}

// waitUntil waits for a moment, or for the end of ctx where the moment is zero. A server that shall run and ends is a failure.
func (a *attempt) waitUntil(ctx context.Context, moment time.Time, running bool) (failure string) {
	var due <-chan time.Time
	if !moment.IsZero() {
		timer := time.NewTimer(time.Until(moment))
		defer timer.Stop()
		due = timer.C
	}
	var ended <-chan struct{}
	if running {
		ended = a.server.Ended()
	}
	select {
	case <-due:
	case <-ctx.Done():
	case <-ended:
		// It has ended, so Wait returns at once and without an error.
		status, _ := a.server.Wait(context.WithoutCancel(ctx))
		return "the server ended by itself (" + status.String() + "); its log ends with: " + a.server.LogTail()
	}
	return ""
}

func (a *attempt) act(ctx context.Context, do string) (failure string) {
	a.run.options.Console.step(do)
	switch do {
	case scenarios.Kill:
		if _, err := a.server.Kill(); err != nil {
			return "the server could not be killed: " + err.Error()
		}
	case scenarios.Drain:
		return a.terminate(ctx)
	case scenarios.Restart:
		begin := time.Now()
		// The end of the load must not stop a start half-way.
		if err := a.server.Restart(context.WithoutCancel(ctx)); err != nil {
			return "the server did not start again: " + err.Error()
		}
		a.recovery = max(a.recovery, time.Since(begin))
	}
	return ""
}

// stop ends the server as the scenario says, also after an interrupt.
func (a *attempt) stop(ctx context.Context) {
	if a.failure != "" || !a.server.Running() {
		return
	}
	if a.scenario.End == scenarios.Kill {
		a.failure = a.act(ctx, scenarios.Kill)
		return
	}
	a.run.options.Console.step("draining")
	a.failure = a.terminate(ctx)
}

// flushLater flushes the log of a server that was killed, or that was told not to flush.
func (a *attempt) flushLater(ctx context.Context) {
	if a.failure != "" || !a.scenario.FlushedLater() {
		return
	}
	a.run.options.Console.step("starting the server again to flush its log")
	begin := time.Now()
	if err := a.server.RestartWith(ctx, flushing(a.config)); err != nil {
		a.failure = "the server did not start again: " + err.Error()
		return
	}
	a.recovery = max(a.recovery, time.Since(begin))
	a.noteMemory()
	flushed := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { a.watchMemory(flushed) })
	a.failure = a.terminate(ctx)
	close(flushed)
	watch.Wait()
}

// noteMemory notes the most memory that the server has taken so far.
func (a *attempt) noteMemory() {
	if usage, err := a.server.Usage(); err == nil {
		a.recoveryRSSBytes = max(a.recoveryRSSBytes, usage.RSSPeakBytes)
	}
}

// watchMemory notes it again and again until done.
func (a *attempt) watchMemory(done <-chan struct{}) {
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			a.noteMemory()
		}
	}
}

// flushing returns a server's config without processor.paused; the given one is not changed.
func flushing(config map[string]any) map[string]any {
	merged := maps.Clone(config)
	if processor, ok := config["processor"].(map[string]any); ok {
		processor = maps.Clone(processor)
		delete(processor, "paused")
		merged["processor"] = processor
	}
	return merged
}

func (a *attempt) terminate(ctx context.Context) (failure string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	begin := time.Now()
	status, err := a.server.Terminate(ctx)
	a.drain, a.exit = time.Since(begin), status
	if err != nil {
		return err.Error()
	}
	if status.Code != 0 {
		return "the server ended its drain with " + status.String() + "; its log ends with: " + a.server.LogTail()
	}
	return ""
}
