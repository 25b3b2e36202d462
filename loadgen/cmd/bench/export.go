package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/results"
)

func newExport() *cobra.Command {
	var benchstat bool
	var hlog string
	command := &cobra.Command{
		Use:   "export DIR",
		Short: "Write a run for other tools: benchstat, HdrHistogram viewers",
		Long: `Write a run for other tools.

--benchstat prints Go benchmark text, a line for each valid repetition; --hlog DIR writes a file in HdrHistogram's log format for each
scenario, with the whole histograms of client and server of each repetition.`,
		Example: `  bench export results/before --benchstat > before.txt
  bench export results/after --benchstat > after.txt; benchstat before.txt after.txt
  bench export results/after --hlog /tmp`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if !benchstat && hlog == "" {
				return errors.New("name a form: --benchstat, --hlog DIR, or both")
			}
			result, err := results.Load(args[0])
			if err != nil {
				return err
			}
			if benchstat {
				if err := results.WriteBenchstat(command.OutOrStdout(), result); err != nil {
					return err
				}
			}
			if hlog == "" {
				return nil
			}
			files, err := result.SaveHistogramLogs(hlog)
			for _, file := range files {
				fmt.Fprintln(os.Stderr, "written:", file)
			}
			return err
		},
	}
	command.Flags().BoolVar(&benchstat, "benchstat", false, "print Go benchmark text")
	command.Flags().StringVar(&hlog, "hlog", "", "write <scenario>.hlog files into this folder")
	return command
}

func newTrend() *cobra.Command {
	var margin float64
	var changes bool
	command := &cobra.Command{
		Use:   "trend [DIR...]",
		Short: "Show figures over the history of runs, with the runs in which they changed",
		Long: `Show the metrics of the objectives over the history of runs: without DIR, over all runs in results/.

Only runs on the same processor, file system and device, with the same load and ack level, make a trend. A change point is where the
repetitions before and after differ by the Mann-Whitney U test, at 5 % after correction for the number of places it was chosen from, and
the medians by the margin.`,
		Example: "  bench trend\n  bench trend --changes results/2026*",
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				files, err := filepath.Glob(filepath.Join("results", "*", results.FileName))
				if err != nil {
					return err
				}
				args = files
			}
			if len(args) == 0 {
				return errors.New("no run in results/: name the folders of some")
			}
			runs, err := loadResults(args)
			if err != nil {
				return err
			}
			return results.WriteTrends(command.OutOrStdout(), results.Trends(runs, margin), changes)
		},
	}
	command.Flags().Float64Var(&margin, "margin", results.DefaultMarginPct, "smallest change of a median that matters, in percent")
	command.Flags().BoolVar(&changes, "changes", false, "show only what has changed")
	return command
}
