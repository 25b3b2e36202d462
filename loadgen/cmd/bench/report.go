package main

import (
	"fmt"
	"os"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

func newReport() *cobra.Command {
	return &cobra.Command{
		Use:     "report DIR",
		Short:   "Print a run's result again and rewrite its report.md and report.html",
		Long:    "Print a run's result again and rewrite its report.md and report.html from its result.json, which stays as it is.",
		Example: "  bench report results/20260304T050607Z-0123456789",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			result, err := results.Load(args[0])
			if err != nil {
				return err
			}
			if err := result.SaveReports(args[0]); err != nil {
				return err
			}
			return writeTables(os.Stdout, result)
		},
	}
}

func newList() *cobra.Command {
	var metrics bool
	command := &cobra.Command{
		Use:   "list",
		Short: "List the shipped scenarios, or the metrics that objectives may name",
		Long: `List the scenarios that ship with this program, or with --metrics the metrics that objectives may name.

The format of scenarios is described in scenarios/schema.json; the files in scenarios/ are examples.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			if metrics {
				fmt.Fprintln(table, "METRIC\tUNIT\tMEANING")
				for _, name := range results.MetricNames() {
					metric, _ := results.LookUp(name)
					fmt.Fprintf(table, "%s\t%s\t%s\n", name, metric.Unit, metric.Help)
				}
				return table.Flush()
			}
			fmt.Fprintln(table, "SCENARIO\tSET\tLOAD\tDESCRIPTION")
			for _, set := range scenarios.SetNames() {
				for _, name := range scenarios.Set(set) {
					scenario, err := scenarios.Shipped(name)
					if err != nil {
						return err
					}
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", name, set, scenario.Load.Words(), scenario.Description)
				}
			}
			return table.Flush()
		},
	}
	command.Flags().BoolVar(&metrics, "metrics", false, "list the metrics")
	return command
}

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [scenario|result]",
		Short: "Print the JSON schema of scenarios, or of results",
		Long: `Print the JSON schema of scenarios (the default), or of result.json.

Editors complete and check scenarios with it: save it, and begin a scenario's file with
  # yaml-language-server: $schema=scenario-schema.json`,
		Example:   "  bench schema > scenario-schema.json",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"scenario", "result"},
		RunE: func(command *cobra.Command, args []string) error {
			text := scenarios.SchemaText()
			if len(args) == 1 && args[0] == "result" {
				text = results.SchemaText()
			}
			_, err := command.OutOrStdout().Write(text)
			return err
		},
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		Run:   func(*cobra.Command, []string) { fmt.Println(versionLine()) },
	}
}

// version is set by the linker.
var version = "development"

func versionLine() string {
	return fmt.Sprintf("bench %s, %s, result schema %d, scenario schema %d", version, runtime.Version(), results.SchemaVersion, scenarios.SchemaVersion)
}
