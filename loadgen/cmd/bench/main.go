package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/results"
)

// exitError ends the program with a code that means something. A nil cause prints nothing more.
type exitError struct {
	code  int
	cause error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action returns, so that a second one ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(exitCode(newRoot().ExecuteContext(ctx)))
}

// exitCode prints an error and says what the program exits with. Errors without a code of their own are bad input, or the
// user's interrupt.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{results.ExitBadInput, err}
		if errors.Is(err, context.Canceled) {
			exit.code = results.ExitInterrupted
		}
	}
	if exit.cause != nil {
		fmt.Fprintln(os.Stderr, "bench:", exit.cause)
	}
	return exit.code
}

const rootHelp = `bench measures the ingestion server and judges what it measured.

It starts a server of its own for each measurement, sends it load over gRPC, drains it, reads back everything that is
stored, and compares that with its own record of what was sent and acked. No rate is printed without what an ack meant
and how fast the disk makes a write durable.

Try it:
  bench run                          the default set of scenarios, about two minutes
  bench run --set hot                the performance targets, each against the ceilings of this machine
  bench run smoke                    one of them
  bench run my.yaml --out /tmp/mine  a scenario of your own; the files in scenarios/ are examples
  bench search ingest-1m             the highest rate at which its objectives hold
  bench report /tmp/mine             print the result again, rewrite its report.md and report.html
  bench compare results/A results/B  what changed from A to B, and whether it is more than noise
  bench load --addr 127.0.0.1:9090 --api-key ik_... --rate 50000    load on a server that runs already

Exit codes of run:
  0    every objective passed
  95   acked data is missing, stored twice or altered
  96   nothing failed, but something could not be judged
  99   an objective was missed
  104  a bad scenario, config or environment
  105  interrupted`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "bench",
		Short:         "Measure the ingestion server and judge what was measured",
		Long:          rootHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newRun(), newSearch(), newLoad(), newCompare(), newTrend(), newExport(), newReport(), newVerify(), newList(), newSchema(), newVersion())
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}
