// Command testsummary reads what `go test -json` prints and closes a test run that has several runners: it shows the output
// of failed tests as they fail, a line for each package, and at the end the names of what was skipped and one line of counts.
//
//	go test -json ./... | testsummary --junit pytest.xml --crash-report crash.jsonl
//
// With a crash report, which the crash tests write (see internal/crashlevel), the table of what they explored follows the counts.
//
// It exits with 1 where a test failed, a package did not build, a report could not be read or says that a promise was broken, or no
// test ran at all.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

func main() {
	var junit reports
	flag.Var(&junit, "junit", "JUnit report of another runner, may be given more than once")
	crashReport := flag.String("crash-report", "", "report of the crash tests")
	flag.Parse()
	s := newSummary(os.Stdout)
	err := s.readGoTest(os.Stdin)
	for _, path := range junit {
		err = errors.Join(err, s.readJUnit(path))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
	}
	good := s.close()
	if *crashReport != "" {
		crashesGood, crashErr := s.crashTable(*crashReport)
		if crashErr != nil {
			fmt.Fprintln(os.Stderr, "testsummary:", crashErr)
		}
		good = good && crashesGood && crashErr == nil
	}
	if !good || err != nil {
		os.Exit(1)
	}
}

type reports []string

func (r *reports) String() string { return strings.Join(*r, " ") }
func (r *reports) Set(path string) error {
	*r = append(*r, path)
	return nil
}

type summary struct {
	out            io.Writer
	passed, failed int
	skipped        []string
	failures       []string
	output         map[string][]string // by package and test, until the test ends
}

func newSummary(out io.Writer) *summary { return &summary{out: out, output: map[string][]string{}} }

type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

func (s *summary) readGoTest(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(s.out, lines.Text()) // what the go command says outside a test
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

func (s *summary) take(e event) {
	key := e.Package + e.ImportPath + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		s.output[key] = append(s.output[key], e.Output)
		return
	case "build-fail":
		s.fail(e.ImportPath+" (build)", key)
	case "pass", "skip", "fail":
		s.end(e, key)
	default:
		return
	}
	delete(s.output, key)
}

func (s *summary) end(e event, key string) {
	name := strings.TrimSpace(e.Package + " " + e.Test)
	switch {
	case e.Test == "" && e.Action == "skip": // no test files
	case e.Test == "":
		fmt.Fprintf(s.out, "%-4s  %s  %.1fs\n", e.Action, e.Package, e.Elapsed)
		// A package can fail without a failed test: a race, a leak, an exit in the middle.
		if e.Action == "fail" {
			s.fail(name, key)
		}
	case e.Action == "pass":
		s.passed++
	case e.Action == "skip":
		s.skipped = append(s.skipped, name+": "+reason(s.output[key]))
	default:
		s.fail(name, key)
	}
}

func (s *summary) fail(name, key string) {
	s.failed++
	s.failures = append(s.failures, name)
	fmt.Fprintf(s.out, "\n=== FAILED %s\n%s\n", name, strings.Join(s.output[key], ""))
}

// reason is the message of a skip: the last line that the test itself logged.
func reason(output []string) string {
	for i := len(output) - 1; i >= 0; i-- {
		line := strings.TrimSpace(output[i])
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return "no reason given"
}

type junitCase struct {
	Class   string    `xml:"classname,attr"`
	Name    string    `xml:"name,attr"`
	Failure *junitMsg `xml:"failure"`
	Error   *junitMsg `xml:"error"`
	Skipped *junitMsg `xml:"skipped"`
}

type junitMsg struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (s *summary) readJUnit(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var report struct {
		Suites []struct {
			Cases []junitCase `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(content, &report); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	count := 0
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			count++
			name := c.Class + " " + c.Name
			switch {
			case c.Failure != nil:
				s.failed++
				s.failures = append(s.failures, name)
			case c.Error != nil:
				s.failed++
				s.failures = append(s.failures, name+" (error)")
			case c.Skipped != nil:
				s.skipped = append(s.skipped, name+": "+c.Skipped.Message)
			default:
				s.passed++
			}
		}
	}
	if count == 0 {
		return fmt.Errorf("%s reports no test", path)
	}
	return nil
}

// close prints the closing lines and tells whether the run as a whole is good.
func (s *summary) close() bool {
	for _, name := range s.failures {
		fmt.Fprintln(s.out, "failed: ", name)
	}
	for _, name := range s.skipped {
		fmt.Fprintln(s.out, "skipped:", name)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, len(s.skipped))
	return s.failed == 0 && s.passed > 0
}

// crashTable prints the table of the crash tests and tells whether every promise was kept.
func (s *summary) crashTable(path string) (bool, error) {
	report, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	lines, err := crashlevel.ReadLines(bytes.NewReader(report))
	if err != nil {
		return false, err
	}
	if len(lines) == 0 {
		return false, fmt.Errorf("%s: no crash test has left a line", path)
	}
	fmt.Fprintln(s.out)
	violations, err := crashlevel.WriteTable(s.out, lines)
	return violations == 0, err
}
