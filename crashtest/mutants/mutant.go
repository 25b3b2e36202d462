package mutants

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mutant is a deliberate mistake in one file.
type Mutant struct {
	// Name is unique: the package, what was done to it.
	Name string
	// Mistake says what the server does wrong, Invariant what it breaks.
	Mistake, Invariant string
	// File is relative to the root of the repository, with slashes.
	File  string
	Edits []Edit
	// Also are directories, beside the file's own, whose tests are to notice it.
	Also []string
	// Server are the crash tests of the built binary that are to notice it, as "directory regexp": "crashtest ^TestPowerCuts$".
	Server []string
	// Survives says why no test can be expected to notice the mistake.
	Survives string
}

// Edit replaces one piece of text by another. Old must be found exactly once.
type Edit struct{ Old, New string }

// All returns all mutants, in the order of the path that a record takes.
func All() []Mutant {
	return slices.Concat(walWrite, walRead, services, manifestMutants, parquetMutants, processorMutants, timescaleMutants, system)
}

// Dir is the directory of the package that is mutated, with slashes.
func (m *Mutant) Dir() string { return m.File[:strings.LastIndexByte(m.File, '/')] }

// Apply returns the file's contents with the mistake. The error says why the mutant is broken.
func (m *Mutant) Apply(root string) ([]byte, error) {
	contents, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.File)))
	if err != nil {
		return nil, fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	text := string(contents)
	for _, e := range m.Edits {
		if n := strings.Count(text, e.Old); n != 1 {
			return nil, fmt.Errorf("mutant %s is broken: %s has the text %d times, not once:\n%s", m.Name, m.File, n, e.Old)
		}
		text = strings.Replace(text, e.Old, e.New, 1)
	}
	if text == string(contents) {
		return nil, fmt.Errorf("mutant %s is broken: it changes nothing", m.Name)
	}
	return []byte(text), nil
}
