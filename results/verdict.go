package results

import (
	"fmt"
	"slices"
	"strings"
)

// State is the outcome of an objective, a scenario or a run.
type State string

// The states. Skipped is of a scenario whose needs the machine does not meet; it does not count.
const (
	Pass         State = "pass"
	Fail         State = "fail"
	Inconclusive State = "inconclusive"
	Skipped      State = "skipped"
)

// Exit codes of `bench run`.
const (
	ExitPass         = 0
	ExitIntegrity    = 95  // acked data is missing, doubled or altered
	ExitInconclusive = 96  // nothing failed, but not everything could be judged
	ExitFail         = 99  // an objective was missed
	ExitBadInput     = 104 // a bad scenario, config or environment
	ExitInterrupted  = 105 // the user ended the run
)

// JudgeScenario sets the objectives' figures and states, the sum of the verifications, and the scenario's state, from its repetitions.
// Objectives must hold Metric, Op and Limit. A skipped scenario is left as it is.
func JudgeScenario(s *Scenario) {
	if s.State == Skipped {
		return
	}
	s.Reasons = nil
	valid := validRepetitions(s.Repetitions)
	for i := range s.Objectives {
		s.Objectives[i].Scenario = s.Name
		judgeObjective(&s.Objectives[i], valid, s.Repetitions)
		s.qualify(&s.Objectives[i], len(valid))
	}
	s.Verify = Verify{Checked: len(s.Repetitions) > 0}
	for _, repetition := range s.Repetitions {
		s.Verify = s.Verify.Add(repetition.Verify)
	}
	s.State = stateOf(s, len(valid))
}

func validRepetitions(repetitions []Repetition) []Repetition {
	var valid []Repetition
	for _, repetition := range repetitions {
		if len(repetition.Invalid) == 0 {
			valid = append(valid, repetition)
		}
	}
	return valid
}

// stateOf applies the order integrity, failures of the server, validity, objectives.
func stateOf(s *Scenario, validCount int) State {
	if s.Verify.Checked && !s.Verify.Intact() {
		s.Reasons = append(s.Reasons, "integrity: "+s.Verify.Faults())
		s.Reasons = append(s.Reasons, s.Verify.Examples...)
		return Fail
	}
	for _, repetition := range s.Repetitions {
		if repetition.Failure != "" {
			s.Reasons = append(s.Reasons, fmt.Sprintf("repetition %d: %s", repetition.Index+1, repetition.Failure))
		}
	}
	if len(s.Reasons) > 0 {
		return Fail
	}
	if len(s.Repetitions) == 0 {
		s.Reasons = append(s.Reasons, "no repetition was finished")
		return Inconclusive
	}
	if invalid := len(s.Repetitions) - validCount; invalid >= validCount {
		for _, repetition := range s.Repetitions {
			for _, reason := range repetition.Invalid {
				s.Reasons = append(s.Reasons, fmt.Sprintf("repetition %d is not valid: %s", repetition.Index+1, reason))
			}
		}
		return Inconclusive
	}
	state := Pass
	for _, objective := range s.Objectives {
		if objective.State == Pass {
			continue
		}
		s.Reasons = append(s.Reasons, objective.Metric+": "+objective.Reason)
		if objective.State == Fail || state == Pass {
			state = objective.State
		}
	}
	return state
}

func judgeObjective(o *Objective, valid, all []Repetition) {
	o.Median, o.Low, o.High, o.Confidence, o.Reason = nil, nil, nil, 0, ""
	metric, _ := LookUp(o.Metric)
	pool := valid
	if metric.Worst {
		pool = all
	}
	values := valuesOf(pool, o.Metric)
	switch {
	case len(pool) == 0:
		o.State, o.Reason = Inconclusive, "no valid repetition"
		if values := valuesOf(all, o.Metric); len(values) > 0 {
			// Shown, but not judged.
			o.Median = &summarize(values).median
		}
	case len(values) == 0:
		o.State, o.Reason = Fail, "never measured: no repetition has a sample"
	case len(values) < len(pool) && !(metric.Worst && !holds(slices.Max(values), o.Op, o.Limit)):
		o.State, o.Reason = Inconclusive, fmt.Sprintf("only %d of %d repetitions have a sample", len(values), len(pool))
		o.Median = &summarize(values).median
	case metric.Worst:
		worst := slices.Max(values)
		judgeInterval(o, summary{median: worst, low: worst, high: worst})
	default:
		found := summarize(values)
		if len(values) < intervalFrom {
			found.low, found.high = found.median, found.median
		} else {
			o.Low, o.High, o.Confidence = &found.low, &found.high, found.confidence
		}
		judgeInterval(o, *found)
	}
}

// judgeInterval sets the median, and the state by where the interval lies.
func judgeInterval(o *Objective, found summary) {
	o.Median = &found.median
	limit := o.Op + " " + FormatValue(o.Limit, o.Unit)
	switch low, high := holds(found.low, o.Op, o.Limit), holds(found.high, o.Op, o.Limit); {
	case low && high:
		o.State = Pass
	case !low && !high:
		o.State, o.Reason = Fail, fmt.Sprintf("%s, must be %s", FormatValue(found.median, o.Unit), limit)
	default:
		o.State = Inconclusive
		o.Reason = fmt.Sprintf("the limit %s lies within %s to %s", limit, FormatValue(found.low, o.Unit), FormatValue(found.high, o.Unit))
	}
}

// qualify makes inconclusive what passed or failed without the ground that such a figure needs.
func (s *Scenario) qualify(o *Objective, validCount int) {
	metric, _ := LookUp(o.Metric)
	if metric.Worst || o.State == Inconclusive || o.Median == nil {
		return
	}
	if found := ConfidencePct(validCount); found < s.MinConfidencePct {
		o.State = Inconclusive
		o.Reason = fmt.Sprintf("%s; the scenario demands %.1f%%, which takes %d", confidenceWords(validCount), s.MinConfidencePct, repetitionsFor(s.MinConfidencePct))
	}
	if metric.Unit != "records/s" {
		return
	}
	for _, repetition := range s.Repetitions {
		switch {
		case repetition.AckLevel == "" || repetition.AckLevel == "none":
			o.State, o.Reason = Inconclusive, "a rate without an ack level says nothing"
		case !repetition.Verify.Checked:
			o.State, o.Reason = Inconclusive, "a rate does not count until what was acked has been read back"
		}
	}
}

// sample is a metric of a repetition. Counts of what went wrong have none where nothing was tried: no batch that could fail, no acked
// record that could be missing.
func (r *Repetition) sample(metric string) (value float64, ok bool) {
	value, ok = r.Metrics[metric]
	if !ok {
		return 0, false
	}
	description, _ := LookUp(metric)
	switch {
	case description.Worst && value == 0:
		return value, r.Verify.Acked > 0
	case metric == "failed_batches" || metric == "retried_batches":
		acked, counted := r.Metrics["acked_records"]
		return value, value > 0 || !counted || acked > 0
	}
	return value, true
}

func valuesOf(repetitions []Repetition, metric string) []float64 {
	var values []float64
	for _, repetition := range repetitions {
		if value, ok := repetition.sample(metric); ok {
			values = append(values, value)
		}
	}
	return values
}

func holds(value float64, op string, limit float64) bool {
	switch op {
	case "<":
		return value < limit
	case "<=":
		return value <= limit
	case "==":
		return value == limit
	case ">=":
		return value >= limit
	case ">":
		return value > limit
	}
	return false
}

// JudgeRun sets what concerns the run as a whole from its judged scenarios: objectives, verification and verdict.
// interrupted says that the user ended the run before its end.
func JudgeRun(r *Result, interrupted bool) {
	r.Objectives = []Objective{}
	counted := 0
	r.Verify = Verify{}
	states := map[State][]string{}
	lost := false
	for _, scenario := range r.Scenarios {
		states[scenario.State] = append(states[scenario.State], scenario.Name)
		if scenario.State == Skipped {
			continue
		}
		r.Objectives = append(r.Objectives, scenario.Objectives...)
		if counted == 0 {
			r.Verify = scenario.Verify
		} else {
			r.Verify = r.Verify.Add(scenario.Verify)
		}
		counted++
		lost = lost || scenario.Verify.Checked && !scenario.Verify.Intact()
	}
	list := func(state State) string { return strings.Join(states[state], ", ") }
	switch {
	case lost:
		r.Verdict = Verdict{Fail, ExitIntegrity, "Stored data is not what was acked: " + r.Verify.Faults() + "."}
	case interrupted:
		r.Verdict = Verdict{Inconclusive, ExitInterrupted, "Interrupted; this is what was measured until then."}
	case len(states[Fail]) > 0:
		r.Verdict = Verdict{Fail, ExitFail, "Did not pass: " + list(Fail) + "."}
	case r.Env.FdatasyncP50Nanos == 0 && counted > 0:
		r.Verdict = Verdict{Inconclusive, ExitInconclusive, "The device's fdatasync was not measured, so no rate can be read."}
	case len(states[Inconclusive]) > 0 || counted == 0:
		r.Verdict = Verdict{Inconclusive, ExitInconclusive, "Nothing failed, but not everything could be judged: " + list(Inconclusive) + "."}
	default:
		r.Verdict = Verdict{Pass, ExitPass, fmt.Sprintf("All %d objectives met; %d acked records read back, each stored exactly once.",
			len(r.Objectives), r.Verify.Acked)}
	}
	if len(states[Skipped]) > 0 {
		r.Verdict.Sentence += " Skipped: " + list(Skipped) + "."
	}
}

// Name is the state as JSON holds it.
func (s State) Name() string { return string(s) }
