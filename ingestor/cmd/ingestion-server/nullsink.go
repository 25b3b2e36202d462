package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/ingestor"
)

// What --answer takes.
const (
	answerValidated = "validated"
	answerEmpty     = "empty"
)

func nullSinkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "null-sink",
		Short: "Run a server that STORES NOTHING, to measure the limits of a machine",
		Long: `Run a server that stores nothing. It is for measuring the limits of a machine only: what it takes is the ceiling
that the figures of "serve" are held against. Never point a client at it whose data you want to keep.

Batches go the same way as in "serve" (connection, credentials, memory, validation) and are then forgotten. Acks say BUFFERED,
whatever level was asked for. With --answer=empty a request is not even looked at: the answer is always the same, for
--ack-records records. On streams it repeats the request's batch_id.

It takes the configuration of "serve" and ignores what concerns data: no data directory is opened, and there is no log and no
database. Ports, signals, address file and exit codes are those of "serve".`,
		Args: cobra.NoArgs,
	}
	flags := addServerFlags(cmd.Flags())
	answer := cmd.Flags().String("answer", answerValidated, "validated: as serve, up to the log; empty: look at no request")
	ackRecords := cmd.Flags().Uint32("ack-records", 1, "number of records that every answer of --answer=empty states")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *answer != answerValidated && *answer != answerEmpty {
			return usageError{fmt.Errorf("--answer: %q is neither validated nor empty", *answer)}
		}
		options := ingestor.NullSinkOptions{Empty: *answer == answerEmpty, AckRecords: *ackRecords}
		open := func(ctx context.Context, cfg ingestor.Config, version string, log *slog.Logger) (*ingestor.Server, error) {
			return ingestor.NewNullSink(ctx, cfg, options, version, log)
		}
		return flags.run(cmd, open)
	}
	return cmd
}
