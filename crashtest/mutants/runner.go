package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// Options rule a run.
type Options struct {
	// Root is the root of the repository.
	Root string
	// Mutants are what is planted.
	Mutants []Mutant
	// Jobs is how many mutants are tried at a time.
	Jobs int
	// Brief leaves out the last stage, the crash tests at level gate.
	Brief bool
	// Seed is that of the crash tests; see crashlevel.
	Seed uint64
	// Out takes a line for each mutant as it is decided.
	Out io.Writer
}

// Outcome is what became of a mutant.
type Outcome int

// The outcomes.
const (
	// Broken: it does not apply or does not build.
	Broken Outcome = iota
	// Killed by a test.
	Killed
	// Survived all of them.
	Survived
)

// Result is what became of one mutant.
type Result struct {
	Mutant  Mutant
	Outcome Outcome
	// Layer is what noticed it: a layer of the crash tests, or "unit tests". Test is the test, How what it did: failed, panicked, did not end.
	Layer, Test, How string
	// Message is the beginning of what the test said, or why the mutant is broken.
	Message string
	Took    time.Duration
}

// runner builds and runs tests.
type runner struct {
	Options
	plan *plan
	// scratch holds everything that is built and written.
	scratch string

	mu     sync.Mutex
	shared map[string]*built // test binaries without a mistake, by directory
	// took is how long stages took without a mistake, by key; layers are those of their crash tests, by directory and test.
	took   map[string]time.Duration
	layers map[string]string
}

// A test that does not end is a mistake that was noticed. A stage with a mistake may take slowFactor times what it took without one, and
// minTimeout more, because the machine may have become busier.
const (
	slowFactor  = 6
	minTimeout  = time.Minute
	gateTimeout = 30 * time.Minute
)

// timeout is the time limit of a stage.
func (r *runner) timeout(s *stage) time.Duration {
	if s.kind == gateTests {
		return gateTimeout
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	took, known := r.took[s.key()]
	if !known { // the baseline itself
		return gateTimeout
	}
	return (minTimeout + slowFactor*took).Round(time.Second)
}

// built is made once.
type built struct {
	once sync.Once
	path string
	err  error
}

// Run tries all mutants. The error says that the run itself means nothing: tests fail without a mistake, or the context has ended.
func Run(ctx context.Context, options Options) ([]Result, error) {
	root, err := filepath.Abs(options.Root)
	if err != nil {
		return nil, err
	}
	options.Root = root
	p, err := newPlan(root, options.Mutants)
	if err != nil {
		return nil, err
	}
	r := &runner{Options: options, plan: p, shared: map[string]*built{}, took: map[string]time.Duration{}, layers: map[string]string{}}
	if r.scratch, err = openTemp("", "mutants-*"); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(r.scratch) }()
	if err := r.baseline(ctx); err != nil {
		return nil, err
	}
	results := make([]Result, len(options.Mutants))
	r.each(len(results), func(i int) {
		results[i] = r.try(ctx, options.Mutants[i])
		if ctx.Err() == nil {
			fmt.Fprintln(r.Out, results[i].line())
		}
	})
	return results, ctx.Err()
}

// openTemp makes a temporary directory that other users may enter: a database server that a test starts does not run as root.
func openTemp(dir, pattern string) (string, error) {
	path, err := os.MkdirTemp(dir, pattern)
	if err != nil {
		return "", err
	}
	return path, os.Chmod(path, 0o755)
}

// each calls fn for 0 to n-1, Jobs at a time.
func (r *runner) each(n int, fn func(int)) {
	var group sync.WaitGroup
	next := make(chan int)
	for range max(1, r.Jobs) {
		group.Go(func() {
			for i := range next {
				fn(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
}

// baseline runs every stage without a mistake.
func (r *runner) baseline(ctx context.Context) error {
	var stages []stage
	known := map[string]bool{}
	for i := range r.Mutants {
		for _, s := range r.plan.stages[r.Mutants[i].Name] {
			if s.kind != gateTests && !known[s.key()] {
				known[s.key()] = true
				stages = append(stages, s)
			}
		}
	}
	errs := make([]error, len(stages))
	r.each(len(stages), func(i int) {
		began := time.Now()
		work, err := openTemp(r.scratch, "baseline-*")
		if err == nil {
			var verdict verdict
			if verdict, err = r.run(ctx, &stages[i], &attempt{work: work}); err == nil && verdict.noticed {
				err = fmt.Errorf("%s fails without a mistake: %s\n%s", &stages[i], verdict.test, verdict.message)
			}
			if err == nil && verdict.nothing {
				err = fmt.Errorf("%s ran no test: %s", &stages[i], verdict.message)
			}
		}
		errs[i] = err
		r.mu.Lock()
		r.took[stages[i].key()] = time.Since(began)
		r.mu.Unlock()
		fmt.Fprintf(r.Out, "without a mistake: %s, %.1f s\n", &stages[i], time.Since(began).Seconds())
	})
	return errors.Join(append(errs, ctx.Err())...)
}

// attempt is one mutant, or none, on its way through the stages.
type attempt struct {
	work string
	// overlay is the file that the go command is given; empty without a mistake.
	overlay string
	// binaries are the test binaries built with the mistake, by directory; server is the path of the server.
	binaries map[string]string
	server   string
}

// try takes a mutant through its stages.
func (r *runner) try(ctx context.Context, m Mutant) Result {
	result := Result{Mutant: m, Outcome: Broken}
	began := time.Now()
	defer func() { result.Took = time.Since(began) }()
	a, err := r.plant(&m)
	if a != nil {
		defer func() { _ = os.RemoveAll(a.work) }()
	}
	if err == nil {
		err = r.goCommand(ctx, "build", "-overlay", a.overlay, "./"+m.Dir())
	}
	if err != nil {
		result.Message, result.Took = err.Error(), time.Since(began)
		return result
	}
	for _, s := range r.plan.stages[m.Name] {
		if s.kind == gateTests && (r.Brief || m.Survives != "") {
			continue
		}
		verdict, err := r.run(ctx, &s, a)
		if err != nil {
			result.Message, result.Took = err.Error(), time.Since(began)
			return result
		}
		if verdict.noticed {
			result.Outcome, result.Layer, result.Test = Killed, verdict.layer, verdict.test
			result.How, result.Message = verdict.how, verdict.message
			result.Took = time.Since(began)
			return result
		}
	}
	result.Outcome, result.Took = Survived, time.Since(began)
	return result
}

// plant writes the file with the mistake and the overlay that puts it in its place.
func (r *runner) plant(m *Mutant) (*attempt, error) {
	contents, err := m.Apply(r.Root)
	if err != nil {
		return nil, err
	}
	work, err := openTemp(r.scratch, m.Name+"-*")
	if err != nil {
		return nil, err
	}
	a := &attempt{work: work, overlay: filepath.Join(work, "overlay.json"), binaries: map[string]string{}}
	mutated := filepath.Join(work, "mutated.go")
	overlay, err := json.Marshal(map[string]any{
		"Replace": map[string]string{filepath.Join(r.Root, filepath.FromSlash(m.File)): mutated},
	})
	if err != nil {
		return a, err
	}
	return a, errors.Join(os.WriteFile(mutated, contents, 0o600), os.WriteFile(a.overlay, overlay, 0o600))
}

func (r *runner) goCommand(ctx context.Context, args ...string) error {
	return r.goCommandIn(ctx, ".", args...)
}

// goCommandIn runs the go command in a module of the repository.
func (r *runner) goCommandIn(ctx context.Context, module string, args ...string) error {
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = filepath.Join(r.Root, module)
	command.Env = append(os.Environ(), "GOWORK=off")
	if args[0] == "build" {
		command.Env = append(command.Env, "CGO_ENABLED=0")
	}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// testBinary returns the test binary of a stage: with the mistake, or, where it is the server that has it, without.
func (r *runner) testBinary(ctx context.Context, s *stage, a *attempt) (string, error) {
	compile := func(path, overlay string) error {
		args := []string{"test", "-c", "-o", path}
		if overlay != "" {
			args = append(args, "-overlay", overlay)
		}
		below, err := filepath.Rel(s.module, s.dir)
		if err != nil {
			return err
		}
		return r.goCommandIn(ctx, s.module, append(args, "./"+below)...)
	}
	if a.overlay != "" && s.kind != serverTests {
		if a.binaries[s.dir] == "" {
			path := filepath.Join(a.work, strings.ReplaceAll(s.dir, "/", "-")+".test")
			if err := compile(path, a.overlay); err != nil {
				return "", err
			}
			a.binaries[s.dir] = path
		}
		return a.binaries[s.dir], nil
	}
	r.mu.Lock()
	b := r.shared[s.dir]
	if b == nil {
		b = &built{path: filepath.Join(r.scratch, strings.ReplaceAll(s.dir, "/", "-")+".test")}
		r.shared[s.dir] = b
	}
	r.mu.Unlock()
	b.once.Do(func() { b.err = compile(b.path, "") })
	return b.path, b.err
}

// serverBinary returns the server of an attempt.
func (r *runner) serverBinary(ctx context.Context, a *attempt) (string, error) {
	if a.server == "" {
		path := filepath.Join(a.work, "ingestion-server")
		args := []string{"build", "-o", path}
		if a.overlay != "" {
			args = append(args, "-overlay", a.overlay)
		}
		if err := r.goCommand(ctx, append(args, "./ingestor/cmd/ingestion-server")...); err != nil {
			return "", err
		}
		a.server = path
	}
	return a.server, nil
}

// verdict is what a stage says of an attempt.
type verdict struct {
	noticed bool
	// nothing says that no test ran to its end: all were skipped, or there were none.
	nothing                   bool
	layer, test, how, message string
}

// serverRounds is how often a stage of the server is run at the brief level, each time with another seed, before a mutant has survived it.
const serverRounds = 6

// run runs a stage, and one of a server with a mistake several times. The error says that it could not be run.
func (r *runner) run(ctx context.Context, s *stage, a *attempt) (v verdict, err error) {
	rounds := uint64(1)
	if s.kind == serverTests && a.overlay != "" {
		rounds = serverRounds
	}
	for i := range rounds {
		if v, err = r.round(ctx, s, a, r.Seed+i); err != nil || v.noticed {
			break
		}
	}
	return v, err
}

func (r *runner) round(ctx context.Context, s *stage, a *attempt, seed uint64) (verdict, error) {
	binary, err := r.testBinary(ctx, s, a)
	if err != nil {
		return verdict{}, err
	}
	temp, err := openTemp(a.work, "run-*")
	if err != nil {
		return verdict{}, err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	report := filepath.Join(temp, "crash.jsonl")
	command := exec.CommandContext(ctx, binary, "-test.v", "-test.failfast", "-test.run", s.run, "-test.skip", s.skip,
		"-test.timeout", r.timeout(s).String())
	command.Dir = filepath.Join(r.Root, s.dir)
	command.Env = append(os.Environ(), "TMPDIR="+temp, "INGESTOR_CRASH_REPORT="+report, "INGESTOR_CRASH_LEVEL=",
		"INGESTOR_CRASH_SEED="+strconv.FormatUint(seed, 10))
	if s.kind == gateTests {
		command.Env = append(command.Env, "INGESTOR_CRASH_LEVEL=gate")
	}
	if s.kind == serverTests {
		server, err := r.serverBinary(ctx, a)
		if err != nil {
			return verdict{}, err
		}
		// Such tests keep the data directory of a failure, beside the directory that they run in.
		command.Dir = filepath.Join(temp, "a", "b")
		if err := os.MkdirAll(command.Dir, 0o755); err != nil {
			return verdict{}, err
		}
		command.Env = append(command.Env, "INGESTOR_SERVER_BIN="+server)
	}
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 10 * time.Second
	runErr := command.Run()
	if command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // what a test that was cut off has left; mostly there is nothing
	}
	unmountBelow(temp)
	if err := ctx.Err(); err != nil {
		return verdict{}, err
	}
	var exit *exec.ExitError
	if runErr != nil && !errors.As(runErr, &exit) {
		return verdict{}, runErr
	}
	v := judge(out.String(), runErr != nil)
	r.attribute(&v, s, report)
	return v, nil
}

// attribute finds out which layer has noticed a mistake: the one that says so, or the one of the test that failed, if it did not come so far.
func (r *runner) attribute(v *verdict, s *stage, report string) {
	contents, err := os.ReadFile(report)
	var lines []crashlevel.Line
	if err == nil {
		if lines, err = crashlevel.ReadLines(bytes.NewReader(contents)); err != nil {
			v.layer = "a report cut short"
			return
		}
	}
	test, _, _ := strings.Cut(v.test, "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range lines {
		if !v.noticed {
			r.layers[s.dir+" "+lines[i].Test] = lines[i].Layer
		} else if lines[i].Violations > 0 && v.layer == "" {
			v.layer = lines[i].Layer
		}
	}
	switch {
	case !v.noticed || v.layer != "":
	case r.layers[s.dir+" "+test] != "":
		v.layer = r.layers[s.dir+" "+test]
	case strings.HasPrefix(test, "TestField_"):
		v.layer = "field cases"
	case s.kind == unitTests:
		v.layer = "unit tests"
	default:
		v.layer = s.dir
	}
}

var (
	failed  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	passed  = regexp.MustCompile(`(?m)^--- PASS: (\S+)`)
	started = regexp.MustCompile(`(?m)^=== (?:RUN|CONT) +(\S+)`)
	broke   = regexp.MustCompile(`(?m)^(panic: .*|fatal error: .*|goleak: .*)$`)
)

// judge reads the output of a test binary, run with -test.v.
func judge(out string, failure bool) verdict {
	if !failure {
		v := verdict{nothing: !passed.MatchString(out)}
		if v.nothing {
			v.message = excerpt(out)
		}
		return v
	}
	v := verdict{noticed: true, how: "failed", message: excerpt(out)}
	if matches := failed.FindAllStringSubmatch(out, -1); matches != nil {
		v.test = matches[0][1]
		for _, m := range matches { // the innermost subtest stands last, the test itself first
			if strings.HasPrefix(m[1], v.test) {
				v.test = m[1]
			}
		}
	} else if matches := started.FindAllStringSubmatch(out, -1); matches != nil {
		v.test = matches[len(matches)-1][1]
	}
	if match := broke.FindString(out); match != "" {
		v.how = "panicked"
		v.message = match
		switch {
		case strings.HasPrefix(match, "panic: test timed out"):
			v.how = "did not end"
		case strings.HasPrefix(match, "goleak"):
			v.how = "leaked"
		}
	}
	return v
}

// excerpt is what a test said when it failed, on one line, not too long.
func excerpt(out string) string {
	const most = 300
	if at := strings.Index(out, "Error:"); at >= 0 {
		out = out[at+len("Error:"):]
	} else if at := failed.FindStringIndex(out); at != nil {
		before := out[:at[0]]
		out = before[max(0, strings.LastIndex(before, "=== RUN")):]
	}
	text := strings.Join(strings.Fields(out), " ")
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}

// unmountBelow takes away the file systems that a test which was cut off has left mounted.
func unmountBelow(dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_FORCE|syscall.MNT_DETACH)
		}
	}
}
