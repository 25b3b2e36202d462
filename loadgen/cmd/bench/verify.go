package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/loadgen/verify"
	"github.com/ingestor-project/ingestor/results"
)

const verifyHelp = `Compare what a server has stored with ledgers that bench load --ledger wrote.

Every stored record is read by a reader that shares no code with the server, computed again from its identity, and compared
column by column. Acked records must be there, once each; nothing may be there that was not sent.

Parquet files are read from the data directory of a server that has been stopped with SIGTERM (what is only in the log
counts as missing). With --dsn the tables of a PostgreSQL are read, with --metrics the metrics instead of the records.

Exit codes:
  0    everything acked is stored once, unaltered, and nothing else is
  95   records are missing, stored twice, altered, out of order, or were never sent
  104  bad flags, or a ledger, file or database that cannot be read
  105  interrupted`

func newVerify() *cobra.Command {
	var dataDir, dsn string
	var ledgers []string
	var metrics bool
	command := &cobra.Command{
		Use:   "verify",
		Short: "Compare what a server has stored with ledgers",
		Long:  verifyHelp,
		Example: `  bench verify --data-dir .data --ledger run1.ledger
  bench verify --dsn postgres://... --metrics --ledger run1.ledger`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx := command.Context()
			var reports []*verify.Report
			add := func(report *verify.Report, err error) error {
				reports = append(reports, report)
				return err
			}
			var err error
			switch {
			case metrics && dsn != "":
				err = add(verify.Metrics(ctx, dsn, ledgers...))
			case metrics:
				err = errors.New("--metrics needs --dsn")
			case dataDir == "" && dsn == "":
				err = errors.New("name what to read: --data-dir, --dsn, or both")
			default:
				if dataDir != "" {
					err = add(verify.Parquet(ctx, dataDir, ledgers...))
				}
				if err == nil && dsn != "" {
					err = add(verify.Postgres(ctx, dsn, ledgers...))
				}
			}
			if err != nil {
				return err
			}
			return printReports(reports)
		},
	}
	command.Flags().StringVar(&dataDir, "data-dir", "", "data directory of a stopped server")
	command.Flags().StringVar(&dsn, "dsn", "", "PostgreSQL that the server wrote to")
	command.Flags().StringArrayVar(&ledgers, "ledger", nil, "ledger file; may be given several times. All that wrote to the server are needed")
	command.Flags().BoolVar(&metrics, "metrics", false, "the ledgers are of metrics (bench load --method metrics)")
	// The flag exists, so this cannot fail.
	_ = command.MarkFlagRequired("ledger")
	return command
}

func printReports(reports []*verify.Report) error {
	intact := true
	for _, report := range reports {
		fmt.Println(report)
		intact = intact && report.OK()
		for _, example := range report.Examples {
			line, err := json.Marshal(example)
			if err != nil {
				return err
			}
			fmt.Fprintln(os.Stdout, " ", string(line))
		}
	}
	if !intact {
		return &exitError{code: results.ExitIntegrity}
	}
	return nil
}
