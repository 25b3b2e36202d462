// Command ingestion-server takes batches of records over gRPC, makes them durable, acknowledges them, and flushes them to
// Parquet and TimescaleDB exactly once.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/ingestor"
)

// version is set by the linker.
var version = "development"

// Exit codes, for scripts and supervisors.
const (
	exitOK       = 0 // orderly stop, everything accepted is durable
	exitError    = 1
	exitUsage    = 2 // flags or configuration
	exitRefused  = 3 // the stored data is damaged: the server will not guess, see `wal verify`
	exitPoisoned = 4 // a write or fsync failed: restart after the device has been looked at
	exitSink     = 5 // a sink cannot go on: it is behind the log, ahead of it, or another server's
)

// usageError marks errors that the caller's words have caused.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	root := &cobra.Command{
		Use:   "ingestion-server",
		Short: "A durable ingestion server: a batch is acknowledged when the disk has it",
		Long: `ingestion-server takes batches of records over gRPC, appends them to a write-ahead log, calls fdatasync, and only then
acknowledges them. Later it flushes them to Parquet files and, where a database is configured, to TimescaleDB, exactly once.

Exit codes: 0 orderly stop; 1 error; 2 wrong flags or configuration; 3 refused to start because stored data is damaged;
4 stopped because a write or fsync failed; 5 a sink cannot go on: it does not fit the log, or another server owns it.`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(serveCommand(), nullSinkCommand(), walCommand(), deadLettersCommand(), configCommand(), keysCommand(), credentialsCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	})
	// What fails before a command has begun is the fault of its words: an unknown command, too few arguments.
	begun := false
	root.PersistentPreRun = func(*cobra.Command, []string) { begun = true }
	root.SetArgs(args)
	err := root.Execute()
	if err != nil && !begun {
		err = usageError{err}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingestion-server:", err)
	}
	return exitCode(err)
}

// group makes a command that only holds others refuse words that are none of theirs, instead of printing its help with exit code 0.
func group(command *cobra.Command) *cobra.Command {
	command.Args = cobra.NoArgs
	command.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return command
}

func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, ingestor.ErrRefused):
		return exitRefused
	case errors.Is(err, ingestor.ErrPoisoned):
		return exitPoisoned
	case errors.Is(err, ingestor.ErrSink):
		return exitSink
	}
	return exitError
}
