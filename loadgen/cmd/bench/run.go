package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ingestor-project/ingestor/loadgen/machine"
	"github.com/ingestor-project/ingestor/loadgen/runner"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

const runHelp = `Carry out scenarios and judge them.

Each FILE is a scenario's YAML file or the name of one that ships with this program (see bench list). Without any, those of
the set run; in it, scenarios that need a database are skipped, by name, where there is none. The set "hot" measures the
project's performance targets against the ceilings of the machine, "sustained" those that take ten minutes and more.

Writes into the folder of the run: result.json (schema: results/schema.json), report.md and report.html, and appends the report's
first screen to the file that $GITHUB_STEP_SUMMARY names. A folder that
already holds a result is refused.

The repetition is the unit of statistics. An objective passes where the interval of its figure lies wholly inside the limit, fails where
it lies wholly outside, and is inconclusive otherwise. How sure the interval is depends on the number of valid repetitions alone:
50 % with 2, 75 % with 3, 87.5 % with 4, 93.75 % with 5, 96.9 % with 6. One repetition has no interval; its figure is judged alone.

The data directories lie in a work folder inside the folder of the run while it lasts. The work folder's disk is the one that is
measured, so one in memory (tmpfs) is refused.`

// runFlags are the flags of bench run.
type runFlags struct {
	out, server, workDir, set string
	repetitions               int
}

func newRun() *cobra.Command {
	var flags runFlags
	command := &cobra.Command{
		Use:   "run [FILE...]",
		Short: "Carry out scenarios and judge them",
		Long:  runHelp,
		Example: `  bench run
  bench run ingest-1m --repetitions 5 --out results/before
  bench run scenarios/smoke.yaml
  bench run --set hot`,
		RunE: func(command *cobra.Command, files []string) error {
			return runScenarios(command.Context(), files, flags)
		},
	}
	flags.addTo(command.Flags())
	command.Flags().StringVar(&flags.set, "set", scenarios.DefaultSet, "set to run where no FILE is given: "+strings.Join(scenarios.SetNames(), ", "))
	command.Flags().IntVar(&flags.repetitions, "repetitions", 0, "repeat each scenario so often instead of what it states")
	return command
}

// addTo adds the flags of everything that makes runs.
func (f *runFlags) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&f.out, "out", "", "folder of the run (default results/<UTC time>-<commit>)")
	flags.StringVar(&f.server, "server", "", "the server's binary (default: ingestion-server beside this program)")
	flags.StringVar(&f.workDir, "work-dir", "", "folder for data directories; its disk is measured (default: work, inside the folder of the run; .data, where that is in memory)")
}

func runScenarios(ctx context.Context, files []string, flags runFlags) error {
	references := files
	if len(files) == 0 {
		if references = scenarios.Set(flags.set); references == nil {
			return fmt.Errorf("--set: there is no set %q, only %s", flags.set, strings.Join(scenarios.SetNames(), ", "))
		}
	}
	list, err := loadScenarios(references)
	if err != nil {
		return err
	}
	for _, scenario := range list {
		if flags.repetitions > 0 {
			scenario.Repetitions = flags.repetitions
		}
	}
	return flags.carryOut(len(files) == 0, list, func(options runner.Options) (*results.Result, error) { return runner.Run(ctx, options) })
}

// carryOut makes the folder of the run, has it filled by run, and prints what was found.
func (f *runFlags) carryOut(skip bool, list []*scenarios.Scenario, run func(runner.Options) (*results.Result, error)) (err error) {
	if f.server, err = serverBinary(f.server); err != nil {
		return err
	}
	if f.out == "" {
		if f.out, err = defaultOut(); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(f.out, results.FileName)); err == nil {
		return fmt.Errorf("%s already holds a %s: name another folder with --out, or remove that one first", f.out, results.FileName)
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return err
	}
	ownWorkDir := f.workDir == ""
	if ownWorkDir {
		f.workDir = defaultWorkDir(f.out)
	}
	if err := os.MkdirAll(f.workDir, 0o755); err != nil {
		return err
	}
	result, runErr := run(runner.Options{
		Scenarios: list, Server: f.server, WorkDir: f.workDir, SkipUnavailable: skip,
		Console: runner.NewConsole(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())), list), Command: os.Args,
	})
	if ownWorkDir {
		// Fails, and is meant to, where evidence was left in it.
		_ = os.Remove(f.workDir)
	}
	if result == nil {
		if errors.Is(runErr, context.Canceled) || runErr == nil {
			return &exitError{results.ExitInterrupted, errors.New("interrupted before anything was measured")}
		}
		return runErr
	}
	return f.publish(result, runErr)
}

// publish writes a result and prints it.
func (f *runFlags) publish(result *results.Result, runErr error) error {
	if err := errors.Join(runErr, result.Save(f.out), result.SaveReports(f.out)); err != nil {
		return err
	}
	if err := writeTables(os.Stdout, result); err != nil {
		return err
	}
	if err := appendStepSummary(os.Getenv("GITHUB_STEP_SUMMARY"), result); err != nil {
		return err
	}
	fmt.Printf("written: %s\n", filepath.Join(f.out, results.HTMLName))
	if result.Verdict.ExitCode != 0 {
		return &exitError{code: result.Verdict.ExitCode}
	}
	return nil
}

// appendStepSummary adds the report's first screen to the file in which GitHub collects what a job's page shows; nothing without a path.
func appendStepSummary(path string, result *results.Result) (err error) {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("step summary: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return results.WriteSummary(file, result)
}

// writeTables prints what a run has found.
func writeTables(w io.Writer, result *results.Result) error {
	return errors.Join(results.WriteTargets(w, result), results.WriteVariants(w, result), results.WriteTable(w, result))
}

// loadScenarios loads all files before anything runs, so that a mistake in the last one costs no time.
func loadScenarios(references []string) ([]*scenarios.Scenario, error) {
	var list []*scenarios.Scenario
	var problems []error
	for _, reference := range references {
		scenario, err := scenarios.LoadFile(reference)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		list = append(list, scenario)
	}
	return list, errors.Join(problems...)
}

// serverBinary finds the server beside this program where no path is given.
func serverBinary(path string) (string, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		path = filepath.Join(filepath.Dir(self), "ingestion-server")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the server's binary: %w; build it with make build, or name it with --server", err)
	}
	return filepath.Abs(path)
}

// defaultWorkDir is inside the folder of the run, or below the current one where the former is in memory.
func defaultWorkDir(out string) string {
	if errors.Is(machine.CheckDurable(out), machine.ErrVolatile) {
		return filepath.Join(".data", "bench-"+filepath.Base(out))
	}
	return filepath.Join(out, "work")
}

func defaultOut() (string, error) {
	env, err := machine.Fingerprint(".")
	if err != nil {
		return "", err
	}
	name := time.Now().UTC().Format("20060102T150405Z") + "-" + env.Commit[:min(10, len(env.Commit))]
	if env.CommitDirty {
		name += "-dirty"
	}
	return filepath.Join("results", name), nil
}
