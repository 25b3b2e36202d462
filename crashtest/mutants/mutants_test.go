package mutants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the root of the repository.
var root = filepath.Join("..", "..")

// typeChecker compiles packages as far as the compiler's front end would refuse them, without building anything.
type typeChecker struct {
	importer types.Importer
	fset     *token.FileSet
	files    map[string][]string // by directory, as the build takes them
}

type listed struct {
	Dir, ImportPath, Export string
	GoFiles                 []string
}

func newTypeChecker(t *testing.T) *typeChecker {
	t.Helper()
	command := exec.Command("go", "list", "-deps", "-export", "-json=Dir,ImportPath,Export,GoFiles", "./ingestor/...")
	command.Dir = root
	command.Stderr = os.Stderr
	out, err := command.Output()
	require.NoError(t, err)
	c := &typeChecker{fset: token.NewFileSet(), files: map[string][]string{}}
	exports := map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		exports[p.ImportPath] = p.Export
		for _, name := range p.GoFiles {
			c.files[p.Dir] = append(c.files[p.Dir], filepath.Join(p.Dir, name))
		}
	}
	c.importer = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
	return c
}

// check returns why a package would not compile if one of its files had other contents.
func (c *typeChecker) check(path string, contents []byte) error {
	var files []*ast.File
	for _, name := range c.files[filepath.Dir(path)] {
		var source any
		if name == path {
			source = contents
		}
		file, err := parser.ParseFile(c.fset, name, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return fmt.Errorf("no package has the file %s", path)
	}
	config := types.Config{Importer: c.importer}
	_, err := config.Check(filepath.Dir(path), c.fset, files, nil)
	return err
}

func TestEveryMutantAppliesAndCompiles(t *testing.T) {
	checker := newTypeChecker(t)
	names := map[string]bool{}
	for _, m := range All() {
		require.False(t, names[m.Name], "two mutants are named %s", m.Name)
		names[m.Name] = true
		require.NotEmpty(t, m.Mistake, m.Name)
		require.NotEmpty(t, m.Invariant, m.Name)
		contents, err := m.Apply(root)
		if err != nil {
			t.Error(err)
			continue
		}
		path, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(m.File)))
		require.NoError(t, err)
		if err := checker.check(path, contents); err != nil {
			t.Errorf("mutant %s is broken, it does not compile: %v", m.Name, err)
		}
	}
	require.GreaterOrEqual(t, len(names), 40)
}

func TestEveryServerLayerNamesTests(t *testing.T) {
	_, err := newPlan(root, All())
	require.NoError(t, err)
}

func TestABrokenMutantIsTold(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "p"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p", "a.go"), []byte("sync; sync; rename"), 0o600))
	for old, problem := range map[string]string{"sync": "2 times", "fsync": "0 times", "rename": ""} {
		m := Mutant{Name: "x", File: "p/a.go", Edits: []Edit{{old, "nothing"}}}
		contents, err := m.Apply(dir)
		if problem == "" {
			require.NoError(t, err)
			require.Equal(t, "sync; sync; nothing", string(contents))
			continue
		}
		require.ErrorContains(t, err, problem)
	}
	same := Mutant{Name: "x", File: "p/a.go", Edits: []Edit{{"rename", "rename"}}}
	_, err := same.Apply(dir)
	require.ErrorContains(t, err, "changes nothing")
}
