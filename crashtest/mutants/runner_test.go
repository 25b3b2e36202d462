package mutants

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// repository makes a module with one package, p, whose tests hold Sum to its word.
func repository(t *testing.T, testBody string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":      "module example.org/m\n\ngo 1.26\n",
		"p/p.go":      "package p\n\nfunc Sum(a, b int) int {\n\tif a == 7 {\n\t\treturn b + a\n\t}\n\treturn a + b\n}\n",
		"p/p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n" + testBody + "\n}\n",
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return root
}

const honest = "\tt.Run(\"small\", func(t *testing.T) {\n\t\tif Sum(1, 2) != 3 {\n\t\t\tt.Fatal(\"wrong sum\")\n\t\t}\n\t})"

func TestTheRunnerTellsOutcomesApart(t *testing.T) {
	root := repository(t, honest)
	before, err := os.ReadFile(filepath.Join(root, "p", "p.go"))
	require.NoError(t, err)
	plant := func(name, old, replacement string) Mutant {
		return Mutant{Name: name, File: "p/p.go", Edits: []Edit{{old, replacement}}}
	}
	explained := plant("order", "return b + a", "return a + b")
	explained.Survives = "equivalent"
	list := []Mutant{
		plant("wrong", "return a + b", "return a - b"),
		plant("panics", "return a + b", "panic(\"no\")"),
		plant("unseen", "a == 7", "a == 8"),
		explained,
		plant("does-not-compile", "return a + b", "return c"),
		plant("does-not-apply", "return a * b", "return 0"),
	}
	var told strings.Builder
	results, err := Run(t.Context(), Options{Root: root, Mutants: list, Jobs: 1, Out: &told})
	require.NoError(t, err)
	outcomes := map[string]Outcome{}
	for _, r := range results {
		outcomes[r.Mutant.Name] = r.Outcome
	}
	require.Equal(t, map[string]Outcome{
		"wrong": Killed, "panics": Killed, "unseen": Survived, "order": Survived, "does-not-compile": Broken, "does-not-apply": Broken,
	}, outcomes)
	require.Equal(t, "TestSum/small", results[0].Test)
	require.Equal(t, "failed", results[0].How)
	require.Equal(t, "unit tests", results[0].Layer)
	require.Equal(t, "panicked", results[1].How)
	require.Contains(t, told.String(), "SURVIVED  unseen")

	score := Sum(results)
	require.Equal(t, Score{Killed: 2, Explained: 1, Survived: 1, Broken: 2, ByLayer: map[string]int{"unit tests": 2}}, score)
	require.False(t, score.Good())
	good := Sum([]Result{results[0], results[3]})
	require.True(t, good.Good())

	after, err := os.ReadFile(filepath.Join(root, "p", "p.go"))
	require.NoError(t, err)
	require.Equal(t, before, after, "the tree is not touched")
}

func TestARunOverFailingTestsMeansNothing(t *testing.T) {
	for body, problem := range map[string]string{
		"\tt.Fatal(\"always\")":    "fails without a mistake",
		"\tt.Skip(\"needs root\")": "ran no test",
	} {
		root := repository(t, body)
		list := []Mutant{{Name: "wrong", File: "p/p.go", Edits: []Edit{{"return a + b", "return a - b"}}}}
		_, err := Run(t.Context(), Options{Root: root, Mutants: list, Jobs: 1, Out: io.Discard})
		require.ErrorContains(t, err, problem)
	}
}

func TestTheLayerIsTheOneThatNoticed(t *testing.T) {
	r := &runner{layers: map[string]string{}}
	report := filepath.Join(t.TempDir(), "report")
	s := &stage{kind: crashTests, dir: "p"}
	write := func(lines string) { require.NoError(t, os.WriteFile(report, []byte(lines), 0o600)) }
	write(`{"layer":"states","test":"TestStates"}` + "\n" + `{"layer":"damage","test":"TestDamage"}` + "\n")
	r.attribute(&verdict{}, s, report)

	write(`{"layer":"states","test":"TestStates"}` + "\n" + `{"layer":"damage","test":"TestDamage","violations":1}` + "\n")
	v := verdict{noticed: true, test: "TestDamage"}
	r.attribute(&v, s, report)
	require.Equal(t, "damage", v.layer)

	// It failed before it began its layer.
	v = verdict{noticed: true, test: "TestStates/small"}
	r.attribute(&v, s, report+".none")
	require.Equal(t, "states", v.layer)

	v = verdict{noticed: true, test: "TestPlain"}
	r.attribute(&v, &stage{kind: unitTests, dir: "p"}, report+".none")
	require.Equal(t, "unit tests", v.layer)
}

func TestServerLayersThatDoNotExistAreRefused(t *testing.T) {
	root := repository(t, honest)
	_, err := newPlan(root, []Mutant{{Name: "x", File: "p/p.go", Server: []string{"p ^TestGone$"}}})
	require.ErrorContains(t, err, "no test ^TestGone$")
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		out     string
		failure bool
		want    verdict
	}{
		"passed":  {out: "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n"},
		"skipped": {out: "=== RUN   TestA\n--- SKIP: TestA (0.00s)\nPASS\n", want: verdict{nothing: true}},
		"failed": {
			out: "=== RUN   TestA\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\nFAIL\n", failure: true,
			want: verdict{noticed: true, test: "TestA/x", how: "failed"},
		},
		"panicked": {
			out: "=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\npanic: index out of range\n", failure: true,
			want: verdict{noticed: true, test: "TestB", how: "panicked"},
		},
		"hung": {
			out: "=== RUN   TestA\npanic: test timed out after 5m0s\n", failure: true,
			want: verdict{noticed: true, test: "TestA", how: "did not end"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(c.out, c.failure)
			got.message = ""
			require.Equal(t, c.want, got)
		})
	}
}
