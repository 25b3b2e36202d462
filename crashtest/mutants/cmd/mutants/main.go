// Command mutants plants deliberate mistakes in the server, one at a time, and prints which test notices each, and the score. It exits with
// 1 where one survives without an explanation or does not apply any more, and with 2 where the tests fail without a mistake.
//
//	go run ./crashtest/mutants/cmd/mutants [-run REGEXP] [-brief] [-jobs N] [-seed N] [-markdown FILE] [-list]
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"syscall"

	"github.com/ingestor-project/ingestor/crashtest/mutants"
)

func main() {
	only := flag.String("run", "", "only the mutants whose name matches")
	jobs := flag.Int("jobs", runtime.NumCPU(), "mutants at a time")
	seed := flag.Uint64("seed", 0, "seed of the crash tests; 0 draws one")
	markdown := flag.String("markdown", "", "file for a table of the results")
	brief := flag.Bool("brief", false, "do not try survivors again at level gate")
	list := flag.Bool("list", false, "print the mutants and do nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, *only, mutants.Options{Root: ".", Jobs: *jobs, Seed: *seed, Brief: *brief, Out: os.Stdout}, *markdown, *list))
}

func run(ctx context.Context, only string, options mutants.Options, markdown string, list bool) int {
	match, err := regexp.Compile(only)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	options.Mutants = slices.DeleteFunc(mutants.All(), func(m mutants.Mutant) bool { return !match.MatchString(m.Name) })
	if list {
		for _, m := range options.Mutants {
			fmt.Printf("%-44s %s\n", m.Name, m.Mistake)
		}
		fmt.Println(len(options.Mutants), "mutants")
		return 0
	}
	if options.Seed == 0 {
		options.Seed = rand.Uint64()
	}
	fmt.Printf("%d mutants, %d at a time, seed %d\n", len(options.Mutants), options.Jobs, options.Seed)
	results, err := mutants.Run(ctx, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if markdown != "" {
		if err := writeTable(markdown, results); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	score := mutants.Sum(results)
	fmt.Println()
	if err := score.Write(os.Stdout); err != nil || !score.Good() {
		return 1
	}
	return 0
}

func writeTable(path string, results []mutants.Result) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := mutants.WriteMarkdown(f, results); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
