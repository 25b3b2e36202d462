package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/machine"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// Options of a run.
type Options struct {
	// Scenarios run in this order. At least one.
	Scenarios []*scenarios.Scenario
	// Server is the path of the server's binary.
	Server string
	// WorkDir is where data directories and ledgers are made; it must exist. Its device is the one that is measured. What is in it is
	// removed after each repetition, unless the judge found a fault.
	WorkDir string
	// SkipUnavailable skips scenarios whose needs the machine does not meet, instead of calling them inconclusive.
	SkipUnavailable bool
	// Console shows progress. Required.
	Console *Console
	// Command reproduces the run.
	Command []string
}

const (
	// probeDuration is how long the fdatasync probe takes.
	probeDuration = time.Second
	// startTimeout bounds the start of a server, the preparation of its log and replay included.
	startTimeout = 5 * time.Minute
	// memoryInterval is the time between looks at the memory of a server that flushes its log. The kernel keeps the peak, so only
	// what comes after the last look is not seen.
	memoryInterval = 200 * time.Millisecond
	// drainTimeout bounds the drain of a server. It is longer than what scenarios set for the server itself.
	drainTimeout = 10 * time.Minute
)

// Run carries out the scenarios and returns the judged result. The error is not nil where the benchmark could not do its work; a
// result is returned beside it where there is one.
func Run(ctx context.Context, options Options) (*results.Result, error) {
	env, err := prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	result := &results.Result{
		SchemaVersion: results.SchemaVersion, StartedAt: time.Now().UTC(), Command: options.Command, Env: env,
		Scenarios: []results.Scenario{},
	}
	before, err := machine.ReadCPUTimes()
	if err != nil {
		return nil, err
	}
	run := &run{options: options}
	var failure error
	for _, scenario := range options.Scenarios {
		if ctx.Err() != nil || failure != nil {
			break
		}
		var outcomes []results.Scenario
		outcomes, failure = run.scenario(ctx, scenario)
		result.Scenarios = append(result.Scenarios, outcomes...)
	}
	failure = errors.Join(failure, run.stopDatabase())
	after, err := machine.ReadCPUTimes()
	if err != nil {
		return nil, errors.Join(failure, err)
	}
	result.Env.StealPct = after.StealPctSince(before)
	result.DurationNanos = int64(time.Since(result.StartedAt))
	results.JudgeRun(result, ctx.Err() != nil)
	return result, failure
}

// prepare checks what every scenario needs and describes the machine.
func prepare(ctx context.Context, options Options) (results.Environment, error) {
	for _, scenario := range options.Scenarios {
		if !scenario.Durable() {
			continue
		}
		if err := machine.CheckDurable(options.WorkDir); err != nil {
			return results.Environment{}, fmt.Errorf("scenario %s: %w; choose another directory with --work-dir", scenario.Name, err)
		}
	}
	env, err := machine.Fingerprint(options.WorkDir)
	if err != nil {
		return env, err
	}
	version, err := exec.CommandContext(ctx, options.Server, "version").Output()
	if err != nil {
		return env, fmt.Errorf("%s version: %w", options.Server, err)
	}
	env.ServerVersion, _, _ = strings.Cut(strings.TrimSpace(string(version)), "\n")
	probe, err := machine.ProbeFdatasync(ctx, options.WorkDir, probeDuration)
	if err != nil {
		return env, err
	}
	env.FdatasyncP50Nanos, env.FdatasyncP99Nanos = probe.ValueAtQuantile(50), probe.ValueAtQuantile(99)
	return env, nil
}

// run is the state over all scenarios.
type run struct {
	options  Options
	database *pgtest.Cluster
}

// scenario carries out all repetitions of one scenario, or of all its variants, and judges them.
func (r *run) scenario(ctx context.Context, s *scenarios.Scenario) ([]results.Scenario, error) {
	variations := s.Variations()
	outcomes := make([]results.Scenario, len(variations))
	for i, variation := range variations {
		outcomes[i] = newOutcome(variation)
	}
	if s.Database == scenarios.Postgres {
		if err := r.startDatabase(ctx); errors.Is(err, pgtest.ErrNone) {
			for i := range outcomes {
				r.unavailable(&outcomes[i], "no PostgreSQL on this machine: set "+pgtest.EnvDSN+", start Docker, or install postgresql")
			}
			return outcomes, nil
		} else if err != nil {
			return outcomes, ignoreInterrupt(ctx, err)
		}
	}
	failure := r.repeat(ctx, variations, outcomes)
	for i := range outcomes {
		outcomes[i].AckLevel = results.AckLevelSeen(outcomes[i].Repetitions, outcomes[i].AckLevel)
		results.JudgeScenario(&outcomes[i])
		r.options.Console.judged(&outcomes[i])
	}
	return outcomes, failure
}

// repeat measures all variations in turn, forwards and then backwards (ABBA), so that what changes on the machine meanwhile meets all of
// them alike.
func (r *run) repeat(ctx context.Context, variations []*scenarios.Scenario, outcomes []results.Scenario) error {
	for index := range variations[0].Repetitions {
		for step := range variations {
			if ctx.Err() != nil {
				return nil
			}
			which := turn(index, step, len(variations))
			repetition, err := r.repetition(ctx, variations[which], index)
			if repetition != nil {
				outcomes[which].Repetitions = append(outcomes[which].Repetitions, *repetition)
			}
			if err != nil {
				return fmt.Errorf("scenario %s: %w", variations[which].Name, err)
			}
		}
	}
	return nil
}

// turn is which of n variations is measured at a step of a repetition.
func turn(repetition, step, n int) int {
	if repetition%2 == 1 {
		return n - 1 - step
	}
	return step
}

// newOutcome is the result of a scenario before anything is measured.
func newOutcome(s *scenarios.Scenario) results.Scenario {
	outcome := results.Scenario{
		Name: s.Name, Group: s.Group, Variant: s.Variant, Description: s.Description, File: s.File,
		AckLevel: "none seen, asked for " + s.Load.AckLevel, Client: s.Load.Words(),
		LoadSHA256: s.LoadSHA256(), Server: s.Server, OfferedRate: s.Load.OfferedRate(), MinConfidencePct: s.Validity.MinConfidencePct,
		Objectives: []results.Objective{}, Repetitions: []results.Repetition{},
	}
	for _, o := range s.Objectives {
		outcome.Objectives = append(outcome.Objectives, results.Objective{
			Scenario: s.Name, Metric: o.Metric, Unit: o.Unit, Op: o.Op, Limit: float64(o.Limit), Target: o.Target, Compare: o.Compare,
		})
	}
	return outcome
}

// unavailable marks a scenario whose needs the machine does not meet.
func (r *run) unavailable(outcome *results.Scenario, reason string) {
	outcome.State = results.Inconclusive
	if r.options.SkipUnavailable {
		outcome.State = results.Skipped
	}
	outcome.Reasons = []string{reason}
	for i := range outcome.Objectives {
		outcome.Objectives[i].State = outcome.State
		outcome.Objectives[i].Reason = reason
	}
	r.options.Console.judged(outcome)
}

func (r *run) startDatabase(ctx context.Context) error {
	if r.database != nil {
		return nil
	}
	var err error
	r.database, err = pgtest.Start(ctx)
	return err
}

func (r *run) stopDatabase() error {
	if r.database == nil {
		return nil
	}
	return r.database.Stop()
}

// ignoreInterrupt drops an error that only says that the user ended the run.
func ignoreInterrupt(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// repetition makes a directory for one repetition, carries it out and removes the directory, unless the judge found a
// fault: then it is evidence. The result is nil where the repetition was interrupted.
func (r *run) repetition(ctx context.Context, s *scenarios.Scenario, index int) (*results.Repetition, error) {
	dir := filepath.Join(r.options.WorkDir, fmt.Sprintf("%s-%d", strings.ReplaceAll(s.Name, "/", "-"), index+1))
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r.options.Console.begin(s, index)
	attempt := &attempt{run: r, scenario: s, index: index, dir: dir}
	repetition, err := attempt.carryOut(ctx)
	if err != nil || repetition != nil && (!repetition.Verify.Intact() || repetition.Failure != "") {
		r.options.Console.line("the evidence is kept in " + dir)
		return repetition, err
	}
	return repetition, os.RemoveAll(dir)
}
