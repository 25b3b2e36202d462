// Package crashlayers finds the crash tests of the repository, so that no list of them has to be kept by hand.
//
// A crash test is a Test function that reaches internal/crashlevel, by itself or through functions that it calls, of its own package or of
// another one here. It is found in the source: functions and methods are told apart by their names only, so that now and then a test
// too many is taken, never one too few.
//
// Packages below crashtest/ that have crash tests drive the built server and are run whole, as is crashtest itself: their other tests
// are part of what they show. Elsewhere only the crash tests are run, because the unit tests beside them have been run already.
package crashlayers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	modulePath     = "github.com/ingestor-project/ingestor"
	crashlevelPath = modulePath + "/internal/crashlevel"
	crashtestDir   = "crashtest"
)

// Package is a directory that has crash tests.
type Package struct {
	// Module is the directory of the module that the package belongs to, relative to the root of the repository: "." or "crashtest/containers".
	Module string
	// Path is the package as `go test` takes it in Module: "./ingestor/internal/wal".
	Path string
	// Tests are the names of the crash tests, in order.
	Tests []string
	// Whole says that all tests of the package are run, not only Tests.
	Whole bool
}

// Pattern is what selects the tests of the package, for `go test -run`.
func (p *Package) Pattern() string {
	if p.Whole {
		return "."
	}
	return "^(" + strings.Join(p.Tests, "|") + ")$"
}

// Dir is the package's directory, relative to the root of the repository.
func (p *Package) Dir() string { return filepath.Join(p.Module, p.Path) }

// Find returns all packages below root that have crash tests, those that need the built server last.
func Find(root string) ([]Package, error) {
	sources, err := readSources(root)
	if err != nil {
		return nil, err
	}
	var list []Package
	for _, dir := range sources.dirs {
		tests := sources.crashTests(dir)
		if len(tests) == 0 && dir != crashtestDir {
			continue
		}
		module, err := moduleOf(root, dir)
		if err != nil {
			return nil, err
		}
		relative, err := filepath.Rel(module, dir)
		if err != nil {
			return nil, err
		}
		if relative != "." {
			relative = "./" + relative
		}
		whole := dir == crashtestDir || strings.HasPrefix(dir, crashtestDir+string(filepath.Separator))
		list = append(list, Package{Module: module, Path: relative, Tests: tests, Whole: whole})
	}
	slices.SortStableFunc(list, func(a, b Package) int {
		switch {
		case a.Whole == b.Whole:
			return 0
		case a.Whole:
			return 1
		}
		return -1
	})
	return list, nil
}

// moduleOf is the nearest directory upwards that has a go.mod.
func moduleOf(root, dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(root, at, "go.mod")); err == nil {
			return at, nil
		}
		if at == "." {
			return "", fmt.Errorf("crashlayers: %s is in no module", dir)
		}
	}
}
