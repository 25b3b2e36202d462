package mutants

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ingestor-project/ingestor/internal/crashlayers"
)

// The kinds of stages, in the order in which they are run.
type kind int

const (
	crashTests  kind = iota // of packages that hold the mistake, in process, brief
	serverTests             // of the built server
	unitTests               // all others of the packages
	gateTests               // as crashTests, but at level gate
)

func (k kind) String() string {
	return [...]string{"crash tests", "server", "unit tests", "crash tests at gate"}[k]
}

const kinds = 4

// stage is a run of some tests of one package.
type stage struct {
	kind kind
	// dir is the package's directory, module that of its module, both relative to the root of the repository.
	dir, module string
	// run selects tests and skip takes away from them; empty takes away none.
	run, skip string
}

func (s *stage) key() string { return fmt.Sprint(s.kind, s.dir, s.run) }

func (s *stage) String() string {
	if s.kind == serverTests {
		return fmt.Sprintf("%s %s", s.dir, s.run)
	}
	return fmt.Sprintf("%s of %s", s.kind, s.dir)
}

// plan knows which stages may notice which mutant.
type plan struct {
	root   string
	layers map[string]crashlayers.Package // by directory
	stages map[string][]stage             // by mutant
}

// newPlan finds the tests for the mutants. It refuses names of tests that do not exist.
func newPlan(root string, list []Mutant) (*plan, error) {
	packages, err := crashlayers.Find(root)
	if err != nil {
		return nil, err
	}
	p := &plan{root: root, layers: map[string]crashlayers.Package{}, stages: map[string][]stage{}}
	for _, l := range packages {
		p.layers[filepath.ToSlash(l.Dir())] = l
	}
	for i := range list {
		if p.stages[list[i].Name], err = p.of(&list[i]); err != nil {
			return nil, fmt.Errorf("mutant %s: %w", list[i].Name, err)
		}
	}
	return p, nil
}

func (p *plan) of(m *Mutant) ([]stage, error) {
	var byKind [kinds][]stage
	for _, dir := range dirs(m) {
		tests, err := testNames(filepath.Join(p.root, dir))
		if err != nil {
			return nil, err
		}
		unit := stage{kind: unitTests, dir: dir, module: ".", run: "."}
		if layer, ok := p.layers[dir]; ok {
			unit.skip = layer.Pattern()
			byKind[crashTests] = append(byKind[crashTests], stage{kind: crashTests, dir: dir, module: ".", run: layer.Pattern()})
			byKind[gateTests] = append(byKind[gateTests], stage{kind: gateTests, dir: dir, module: ".", run: layer.Pattern()})
			if len(layer.Tests) == len(tests) {
				continue
			}
		}
		if len(tests) > 0 {
			byKind[unitTests] = append(byKind[unitTests], unit)
		}
	}
	for _, named := range m.Server {
		dir, pattern, _ := strings.Cut(named, " ")
		if err := p.matches(dir, pattern); err != nil {
			return nil, err
		}
		module := "."
		if layer, ok := p.layers[dir]; ok {
			module = layer.Module
		}
		byKind[serverTests] = append(byKind[serverTests], stage{kind: serverTests, dir: dir, module: module, run: pattern})
	}
	var stages []stage
	for _, some := range byKind {
		stages = append(stages, some...)
	}
	if len(stages) == 0 {
		return nil, fmt.Errorf("no test can notice it")
	}
	return stages, nil
}

// pipelineDirs are the packages that the tests of the processor run as one: from the committer to log, sinks and manifest.
var pipelineDirs = []string{walDir, servicesDir, dedupeDir, memtableDir, manifestDir, parquetDir, processorDir}

// dirs are the packages whose tests may notice a mistake, each once.
func dirs(m *Mutant) []string {
	list := append([]string{m.Dir()}, m.Also...)
	if slices.Contains(pipelineDirs, m.Dir()) && !slices.Contains(list, processorDir) {
		list = append(list, processorDir)
	}
	return list
}

// matches checks that a pattern selects a test.
func (p *plan) matches(dir, pattern string) error {
	selects, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	tests, err := testNames(filepath.Join(p.root, dir))
	if err != nil {
		return err
	}
	for _, name := range tests {
		if selects.MatchString(name) {
			return nil
		}
	}
	return fmt.Errorf("%s has no test %s", dir, pattern)
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`)

// testNames returns the tests in a directory.
func testNames(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, path := range files {
		contents, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, match := range testFunction.FindAllSubmatch(contents, -1) {
			names = append(names, string(match[1]))
		}
	}
	return names, nil
}
