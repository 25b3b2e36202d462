package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/results"
)

const compareHelp = `Compare two runs: BASE and CONTENDER are folders of runs, or their result.json.

For each scenario that both have, the metrics of its objectives (--all: all metrics) are compared over the valid
repetitions with the Mann-Whitney U test. Below 5 % a change counts as shown; that takes at least four repetitions on each
side (bench run --repetitions). Missing, duplicate and corrupt records are not compared: each run's verdict is about them.

Differences between the machines come first. Runs from unlike machines are refused unless --force is given.

Exit codes:
  0    compared, whatever has changed: better and worse are for the reader to judge
  104  a result that cannot be read, or runs from unlike machines`

func newCompare() *cobra.Command {
	var force, all bool
	command := &cobra.Command{
		Use:     "compare BASE CONTENDER",
		Short:   "Say what changed between two runs, and whether it is more than noise",
		Long:    compareHelp,
		Example: "  bench compare results/before results/after",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			base, err := results.Load(args[0])
			if err != nil {
				return err
			}
			contender, err := results.Load(args[1])
			if err != nil {
				return err
			}
			comparison := results.Compare(base, contender, all)
			if len(comparison.Differences) > 0 && !force {
				comparison.Changes, comparison.Notes = nil, nil
				return errors.Join(results.WriteComparison(os.Stdout, comparison),
					errors.New("the runs come from unlike machines; --force compares them nevertheless"))
			}
			return results.WriteComparison(os.Stdout, comparison)
		},
	}
	command.Flags().BoolVar(&force, "force", false, "compare runs from unlike machines")
	command.Flags().BoolVar(&all, "all", false, "compare all metrics, not only those of objectives")
	return command
}
