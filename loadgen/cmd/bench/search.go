package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/loadgen/runner"
	"github.com/ingestor-project/ingestor/results"
)

const searchHelp = `Find the highest rate at which a scenario's objectives hold.

FILE is a scenario's YAML file or the name of one that ships with this program. Its phases give way to a warm-up and a probe at one
rate, open loop; its own rate objectives to one that at least 98 % of what is offered is acked in time. The search doubles
the rate from --from until an objective is missed, halves the distance on a logarithmic scale down to --precision, and lets the highest rate
that held hold three times in a row. Each probe has a fresh server, and everything acked is read back.

A probe that breaks a validity rule is made again once; a rate that still cannot be judged ends the search there, and the result says
that the server may carry more.

Writes result.json, report.md and report.html as bench run does; the report draws latency against rate, with the knee.

Exit codes are those of run.`

func newSearch() *cobra.Command {
	var flags runFlags
	var options runner.SearchOptions
	command := &cobra.Command{
		Use:     "search FILE",
		Short:   "Find the highest rate at which a scenario's objectives hold",
		Long:    searchHelp,
		Example: "  bench search ingest-1m --from 100000 --probe 3s",
		Args:    cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, files []string) error {
			return search(command.Context(), files[0], flags, options)
		},
	}
	flags.addTo(command.Flags())
	f := command.Flags()
	f.Float64Var(&options.From, "from", 0, "lowest rate to try, in records per second (default: an eighth of the scenario's own)")
	f.Float64Var(&options.To, "to", 0, "highest rate to try (default: 1024 times --from)")
	f.Float64Var(&options.PrecisionPct, "precision", 5, "distance in percent between what holds and what does not at which the search ends")
	f.DurationVar(&options.Probe, "probe", 3*time.Second, "measured length of each load")
	f.DurationVar(&options.WarmUp, "warm-up", time.Second, "length of the load before, which is left out of all figures")
	return command
}

// searchFrom is where a search begins for a scenario that offers no rate of its own.
const searchFrom = 10_000

func search(ctx context.Context, file string, flags runFlags, options runner.SearchOptions) error {
	list, err := loadScenarios([]string{file})
	if err != nil {
		return err
	}
	if options.From == 0 {
		if options.From = list[0].Load.OfferedRate() / 8; options.From == 0 {
			options.From = searchFrom
		}
	}
	if options.To == 0 {
		options.To = 1024 * options.From
	}
	if err := options.Validate(); err != nil {
		return err
	}
	return flags.carryOut(false, list, func(o runner.Options) (*results.Result, error) { return runner.Search(ctx, o, options) })
}
