package crashlayers

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// function is all functions and methods of one name in one directory.
type function struct{ dir, name string }

// sources is which functions mention which, in all directories that may have to do with crash tests.
type sources struct {
	dirs     []string // relative to the root
	mentions map[function]map[function]bool
	reaches  map[function]bool // crashlevel
}

// readSources reads the Go files below root.
func readSources(root string) (*sources, error) {
	s := &sources{mentions: map[function]map[function]bool{}, reaches: map[function]bool{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir() && dir != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata"):
			return filepath.SkipDir
		case d.IsDir():
			s.dirs = append(s.dirs, dir)
		case strings.HasSuffix(name, ".go"):
			return s.add(path, filepath.Dir(dir))
		}
		return nil
	})
	if err == nil {
		s.close()
	}
	return s, err
}

// add reads one file. Only what imports testing can be, or be called by, a crash test.
func (s *sources) add(path, dir string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("crashlayers: %w", err)
	}
	imports := make(map[string]string) // directories by local name
	ofTests := strings.HasSuffix(path, "_test.go")
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("crashlayers: %s: %w", path, err)
		}
		ofTests = ofTests || imported == "testing"
		if below, ok := strings.CutPrefix(imported, modulePath+"/"); ok {
			local := filepath.Base(below)
			if spec.Name != nil {
				local = spec.Name.Name
			}
			imports[local] = filepath.FromSlash(below)
		}
	}
	if !ofTests || modulePath+"/"+filepath.ToSlash(dir) == crashlevelPath {
		return nil
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
			s.addFunction(f, dir, imports)
		}
	}
	return nil
}

func (s *sources) addFunction(f *ast.FuncDecl, dir string, imports map[string]string) {
	from := function{dir, f.Name.Name}
	if s.mentions[from] == nil {
		s.mentions[from] = make(map[function]bool)
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			s.mentions[from][function{dir, n.Name}] = true
		case *ast.SelectorExpr:
			local, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			if imported, ok := imports[local.Name]; ok {
				s.mentions[from][function{imported, n.Sel.Name}] = true
				if modulePath+"/"+filepath.ToSlash(imported) == crashlevelPath {
					s.reaches[from] = true
				}
			}
		}
		return true
	})
}

// close adds to reaches what mentions one that reaches crashlevel, until there is no more.
func (s *sources) close() {
	for grown := true; grown; {
		grown = false
		for from, mentions := range s.mentions {
			if s.reaches[from] {
				continue
			}
			for to := range mentions {
				if s.reaches[to] {
					s.reaches[from], grown = true, true
					break
				}
			}
		}
	}
}

// crashTests returns the names of a directory's crash tests, in order.
func (s *sources) crashTests(dir string) []string {
	names := make(map[string]bool)
	for f := range s.reaches {
		if f.dir == dir && isTest(f.name) {
			names[f.name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// isTest follows the go command: TestMain is no test, nor is Testable.
func isTest(name string) bool {
	rest, ok := strings.CutPrefix(name, "Test")
	return ok && name != "TestMain" && (rest == "" || rest[0] < 'a' || rest[0] > 'z')
}
