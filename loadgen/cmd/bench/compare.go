package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/results"
)

const compareHelp = `Compare runs: BASE and CONTENDER are folders of runs, or their result.json. Several runs of a side are taken together; -- stands
between the sides then.

For each scenario that both sides have, the metrics of its objectives (--all: all metrics) are compared over the valid repetitions:
medians with their intervals, the change with its interval, and the two-sided Mann-Whitney U test, which is exact for such numbers.
The p-values are corrected for the number of metrics (Holm): the chance that anything at all is called better or worse although
nothing has changed is 5 %, however many metrics there are. With four metrics that takes five repetitions on each side to show
anything, with twenty, six (bench run --repetitions).

  better, worse        significant, and the median changed by at least the margin
  below the margin     significant, but too small to matter
  equivalent           the whole interval lies within the margin
  no difference shown  the repetitions do not tell
  too few repetitions  no difference, however large, could have been shown

Missing, duplicate and corrupt records are not compared: each run's verdict is about them.

Differences of machine and load come first, then those of device, commit and settings, which a comparison may be about. Runs from
unlike machines, or of unlike loads, are refused unless --force is given.

Exit codes:
  0    compared, whatever has changed: better and worse are for the reader to judge
  99   with --fail-on-worse: something is worse
  104  a result that cannot be read, or runs that are unlike`

// compareFlags are the flags of bench compare.
type compareFlags struct {
	results.CompareOptions
	force, failOnWorse bool
}

func newCompare() *cobra.Command {
	var flags compareFlags
	command := &cobra.Command{
		Use:   "compare BASE... [--] CONTENDER...",
		Short: "Say what changed between runs, and whether it is more than noise",
		Long:  compareHelp,
		Example: `  bench compare results/before results/after
  bench compare results/before-1 results/before-2 -- results/after-1 results/after-2`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			dash := command.ArgsLenAtDash()
			switch {
			case dash < 0 && len(args) == 2:
				dash = 1
			case dash < 1 || dash == len(args):
				return errors.New("with more than two runs, -- must stand between BASE... and CONTENDER...")
			}
			return compare(command.OutOrStdout(), args[:dash], args[dash:], flags)
		},
	}
	command.Flags().BoolVar(&flags.force, "force", false, "compare unlike machines and loads")
	command.Flags().BoolVar(&flags.AllMetrics, "all", false, "compare all metrics, not only those of objectives")
	command.Flags().Float64Var(&flags.MarginPct, "margin", results.DefaultMarginPct, "smallest change of a median that matters, in percent")
	command.Flags().BoolVar(&flags.failOnWorse, "fail-on-worse", false, "exit with 99 where something is worse")
	return command
}

func compare(w io.Writer, base, contender []string, flags compareFlags) error {
	if !(flags.MarginPct >= 0) {
		return errors.New("--margin must not be negative")
	}
	baseRuns, err := loadResults(base)
	contenderRuns, contenderErr := loadResults(contender)
	if err := errors.Join(err, contenderErr); err != nil {
		return err
	}
	comparison := results.Compare(baseRuns, contenderRuns, flags.CompareOptions)
	if len(comparison.Differences) > 0 && !flags.force {
		comparison.Changes, comparison.Notes = nil, nil
		return errors.Join(results.WriteComparison(w, comparison),
			errors.New("the runs come from unlike machines or loads; --force compares them nevertheless"))
	}
	if err := results.WriteComparison(w, comparison); err != nil {
		return err
	}
	if flags.failOnWorse && comparison.Any(results.Worse) {
		return &exitError{code: results.ExitFail}
	}
	return nil
}

func loadResults(paths []string) ([]*results.Result, error) {
	var runs []*results.Result
	var problems []error
	for _, path := range paths {
		run, err := results.Load(path)
		runs, problems = append(runs, run), append(problems, err)
	}
	return runs, errors.Join(problems...)
}
