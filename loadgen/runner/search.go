package runner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

// SearchOptions say where and how closely to look for the highest rate.
type SearchOptions struct {
	// From and To bound the offered rate, in records per second. The search begins at From.
	From, To float64
	// PrecisionPct is the distance between a rate that held and one that did not at which the search ends.
	PrecisionPct float64
	// Probe and WarmUp are the lengths of one load's measured part and of what comes before it.
	Probe, WarmUp time.Duration
}

const (
	// confirmations is how often the highest rate must hold.
	confirmations = 3
	// maxProbes bounds the search where a rate holds now and then.
	maxProbes = 48
	// invalidTries is how often a rate is tried whose probes are not valid.
	invalidTries = 2
)

// Validate says what is wrong with the options.
func (o SearchOptions) Validate() error {
	switch {
	case !(o.From > 0) || !(o.To > o.From) || math.IsInf(o.To, 0):
		return errors.New("search: the bounds of the rate must be above 0 and in order")
	case !(o.PrecisionPct >= 0.5):
		return errors.New("search: a precision below 0.5 percent takes too many probes")
	case o.Probe <= 0 || o.WarmUp < 0:
		return errors.New("search: a probe must have a length")
	}
	return nil
}

// prober puts the load on the server at a rate, once.
type prober func(ctx context.Context, rate float64, step string) (results.Probe, error)

// searcher finds the highest rate that holds: it doubles from the lowest rate until one does not hold, halves the distance on a logarithmic
// scale until it is small, and lets the highest rate that held hold three times in a row. A rate that then gives way becomes the
// new upper end. It reaches rates that hold always; that higher ones fail always is not assumed.
type searcher struct {
	options SearchOptions
	probe   prober
	found   results.Search
	holding []float64 // rates that held and have not failed since, rising
	upper   float64   // lowest rate that did not hold; 0: none known
}

// errProbesSpent says that the bound on probes was met.
var errProbesSpent = errors.New("the bound on probes was reached")

func (s *searcher) run(ctx context.Context) error {
	s.found.PrecisionPct = s.options.PrecisionPct
	err := s.bracket(ctx)
	for err == nil && len(s.holding) > 0 {
		if err = s.bisect(ctx); err != nil {
			break
		}
		var confirmed bool
		if confirmed, err = s.confirm(ctx); confirmed || err != nil {
			break
		}
	}
	s.found.Limit = s.upper
	if errors.Is(err, errProbesSpent) {
		s.found.Doubt, err = err.Error(), nil
	}
	return err
}

// try probes a rate, and says whether it held. A rate that cannot be judged counts as one that did not, and is doubted.
func (s *searcher) try(ctx context.Context, rate float64, step string) (held bool, err error) {
	for range invalidTries {
		if len(s.found.Probes) >= maxProbes {
			return false, errProbesSpent
		}
		probe, err := s.probe(ctx, rate, step)
		if err != nil {
			return false, err
		}
		s.found.Probes = append(s.found.Probes, probe)
		switch probe.State {
		case results.Pass:
			return true, nil
		case results.Fail:
			s.lower(rate, probe.Reason, "")
			return false, nil
		}
	}
	reason := s.found.Probes[len(s.found.Probes)-1].Reason
	s.lower(rate, reason, fmt.Sprintf("at %s nothing can be said of the server: %s", results.FormatValue(rate, "records/s"), reason))
	return false, nil
}

// lower makes rate the upper end.
func (s *searcher) lower(rate float64, reason, doubt string) {
	if s.upper == 0 || rate <= s.upper {
		s.upper, s.found.LimitReason, s.found.Doubt = rate, reason, doubt
	}
	s.holding = slices.DeleteFunc(s.holding, func(held float64) bool { return held >= rate })
}

// bracket finds a rate that holds and one that does not, or that the upper bound holds.
func (s *searcher) bracket(ctx context.Context) error {
	for rate := s.options.From; ; rate = min(2*rate, s.options.To) {
		held, err := s.try(ctx, rate, "bracket")
		if err != nil || !held {
			return err
		}
		s.holding = append(s.holding, rate)
		if rate == s.options.To {
			s.found.Doubt = "the search ended at its upper bound"
			return nil
		}
	}
}

func (s *searcher) bisect(ctx context.Context) error {
	for s.upper > 0 {
		low := s.holding[len(s.holding)-1]
		if s.upper/low <= 1+s.options.PrecisionPct/100 {
			return nil
		}
		rate := math.Sqrt(low * s.upper)
		held, err := s.try(ctx, rate, "bisect")
		if err != nil {
			return err
		}
		if held {
			s.holding = append(s.holding, rate)
		}
	}
	return nil
}

// confirm lets the highest rate hold three times more. Where it does not, the search goes on below it.
func (s *searcher) confirm(ctx context.Context) (confirmed bool, err error) {
	rate := s.holding[len(s.holding)-1]
	for range confirmations {
		held, err := s.try(ctx, rate, "confirm")
		if err != nil || !held {
			return false, err
		}
	}
	s.found.Highest, s.found.Confirmations = rate, confirmations
	return true, nil
}

// Search finds the highest rate at which the objectives of the only scenario hold. The result's scenario has the confirmations as its
// repetitions.
func Search(ctx context.Context, options Options, search SearchOptions) (*results.Result, error) {
	if err := search.Validate(); err != nil {
		return nil, err
	}
	scenario := searchable(options.Scenarios[0])
	if err := checkSearchable(scenario, search); err != nil {
		return nil, err
	}
	env, err := prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	result := &results.Result{
		SchemaVersion: results.SchemaVersion, StartedAt: time.Now().UTC(), Command: options.Command, Env: env,
	}
	r := run{options: options}
	var repetitions []results.Repetition // of the rate that is being confirmed
	probe := func(ctx context.Context, rate float64, step string) (results.Probe, error) {
		at := scenario.at(rate, search, step == "confirm")
		repetition, err := r.repetition(ctx, at, len(repetitions))
		if err != nil || repetition == nil {
			return results.Probe{}, errors.Join(err, ctx.Err())
		}
		outcome := judgeProbe(at, *repetition)
		options.Console.judged(&outcome)
		switch {
		case repetition.Verify.Checked && !repetition.Verify.Intact():
			// Nothing else matters now: this repetition becomes the result.
			repetitions = []results.Repetition{*repetition}
			return results.Probe{}, errDataLost
		case step == "confirm" && outcome.State == results.Pass:
			repetitions = append(repetitions, *repetition)
		case step != "confirm" || outcome.State == results.Fail:
			repetitions = nil
		}
		return newProbe(rate, step, &outcome), nil
	}
	s := searcher{options: search, probe: probe}
	err = ignoreInterrupt(ctx, s.run(ctx))
	lost := errors.Is(err, errDataLost)
	if lost {
		err = nil
	}
	highest := scenario.at(max(s.found.Highest, search.From), search, true)
	outcome := newOutcome(highest)
	if lost || s.found.Confirmations > 0 {
		outcome.Repetitions = append(outcome.Repetitions, repetitions...)
	}
	outcome.AckLevel = results.AckLevelSeen(outcome.Repetitions, outcome.AckLevel)
	outcome.Search = &s.found
	results.JudgeScenario(&outcome)
	if outcome.State == results.Inconclusive && len(outcome.Repetitions) == 0 && s.found.LimitReason != "" && s.found.Doubt == "" {
		outcome.State = results.Fail
	}
	outcome.Reasons = slices.Concat([]string{s.found.Sentence()}, outcome.Reasons)
	result.Scenarios = []results.Scenario{outcome}
	result.DurationNanos = int64(time.Since(result.StartedAt))
	results.JudgeRun(result, ctx.Err() != nil)
	if result.Verdict.State == results.Pass {
		result.Verdict.Sentence = s.found.Sentence() + ". " + result.Verdict.Sentence
	}
	return result, err
}

// errDataLost ends a search: acked data is missing, doubled or altered.
var errDataLost = errors.New("stored data is not what was acked")

// searched is a scenario whose rate is free.
type searched struct{ scenarios.Scenario }

// searchable takes out of the objectives the absolute rate, which the search is about, and demands instead that what is offered is acked.
func searchable(s *scenarios.Scenario) searched {
	of := searched{*s}
	of.Objectives = slices.DeleteFunc(slices.Clone(s.Objectives), func(o scenarios.Objective) bool {
		return o.Metric == "acked_records_per_second" || o.Metric == "achieved_ratio"
	})
	of.Objectives = append(of.Objectives, scenarios.Objective{Metric: "achieved_ratio", Op: ">=", Limit: achievedForSearch, Unit: "ratio"})
	return of
}

// achievedForSearch is the share of the offered load that must be acked in time. An open loop that falls behind by more is over the limit.
const achievedForSearch = 0.98

// at is the scenario at a rate. Ceilings take time, so that only confirmations take them.
func (s searched) at(rate float64, search SearchOptions, ceilings bool) *scenarios.Scenario {
	of := s.Scenario
	of.Repetitions, of.Load.Phases = 1, nil
	arrivals := s.Load.Phases[len(s.Load.Phases)-1].Arrivals
	if search.WarmUp > 0 {
		of.Load.Phases = append(of.Load.Phases, scenarios.Phase{
			Name: "warm-up", Duration: search.WarmUp, RecordsPerSecond: rate, Arrivals: arrivals, WarmUp: true,
		})
	}
	of.Load.Phases = append(of.Load.Phases, scenarios.Phase{
		Name: results.FormatValue(rate, "records/s"), Duration: search.Probe, RecordsPerSecond: rate, Arrivals: arrivals,
	})
	if !ceilings {
		of.Ceilings, of.Validity.MaxOfferedRatio = nil, nil
		of.Objectives = slices.DeleteFunc(slices.Clone(s.Objectives), func(o scenarios.Objective) bool {
			metric, _ := results.LookUp(o.Metric)
			return len(metric.Ceilings) > 0
		})
	}
	return &of
}

func checkSearchable(s searched, search SearchOptions) error {
	switch {
	case len(s.Variants) > 0 || len(s.Actions) > 0 || s.Load.Replay != nil || s.Database == scenarios.Postgres:
		return fmt.Errorf("search: scenario %s has variants, actions, a recording or a database, so its rate cannot be searched", s.Name)
	case len(s.Load.Phases) == 0:
		return fmt.Errorf("search: scenario %s has no phases", s.Name)
	}
	config := s.at(search.From, search, true).Load.EngineConfig()
	config.Target = "checked without one"
	return config.Validate()
}

// judgeProbe judges one load as if it were the scenario's only repetition.
func judgeProbe(s *scenarios.Scenario, repetition results.Repetition) results.Scenario {
	outcome := newOutcome(s)
	// A probe has no interval, whatever confidence the scenario demands of its end.
	outcome.MinConfidencePct = 0
	outcome.Repetitions = []results.Repetition{repetition}
	outcome.Name = s.Name + " at " + s.Load.Phases[len(s.Load.Phases)-1].Name
	results.JudgeScenario(&outcome)
	return outcome
}

func newProbe(rate float64, step string, outcome *results.Scenario) results.Probe {
	repetition := outcome.Repetitions[0]
	return results.Probe{
		OfferedRate: rate, Step: step, State: outcome.State, Reason: strings.Join(outcome.Reasons, "; "),
		AckedRate: repetition.Metrics["acked_records_per_second"],
		P50Nanos:  int64(repetition.Metrics["response_p50_ns"]), P99Nanos: int64(repetition.Metrics["response_p99_ns"]),
	}
}
