package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func summarise(t *testing.T, events string, junit ...string) (string, bool) {
	t.Helper()
	var out bytes.Buffer
	s := newSummary(&out)
	require.NoError(t, s.readGoTest(strings.NewReader(events)))
	for _, content := range junit {
		path := filepath.Join(t.TempDir(), "junit.xml")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		require.NoError(t, s.readJUnit(path))
	}
	good := s.close()
	return out.String(), good
}

func TestFailuresSkipsAndCountsOfSeveralRunners(t *testing.T) {
	out, good := summarise(t, `
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: want 1\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:3: needs root\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"--- SKIP: TestC\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}`,
		`<testsuites><testsuite><testcase classname="py" name="ok"/><testcase classname="py" name="no"><failure message="x"/></testcase>
		 <testcase classname="py" name="later"><skipped message="no server"/></testcase></testsuite></testsuites>`)
	require.False(t, good)
	require.Contains(t, out, "want 1")
	require.Contains(t, out, "failed:  p TestA")
	require.Contains(t, out, "failed:  py no")
	require.Contains(t, out, "skipped: p TestC: c_test.go:3: needs root")
	require.Contains(t, out, "skipped: py later: no server")
	require.Contains(t, out, "2 passed, 3 failed, 2 skipped\n")
}

func TestAPackageThatDoesNotBuildFailsTheRun(t *testing.T) {
	out, good := summarise(t, `{"ImportPath":"p","Action":"build-output","Output":"syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"pass","Package":"q","Test":"TestB"}`)
	require.False(t, good)
	require.Contains(t, out, "syntax error")
}

func TestNoTestAtAllIsNoSuccess(t *testing.T) {
	_, good := summarise(t, `{"Action":"skip","Package":"p"}`)
	require.False(t, good)
	_, good = summarise(t, `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`)
	require.True(t, good)
}

func TestABrokenPromiseFailsTheRun(t *testing.T) {
	for violations, good := range map[string]bool{"0": true, "2": false} {
		path := filepath.Join(t.TempDir(), "crash.jsonl")
		line := `{"layer":"power cuts","explored":300,"unit":"cuts","violations":` + violations + `,"replay":"go test x"}` + "\n"
		require.NoError(t, os.WriteFile(path, []byte(line), 0o600))
		var out bytes.Buffer
		got, err := newSummary(&out).crashTable(path)
		require.NoError(t, err)
		require.Equal(t, good, got)
		require.Contains(t, out.String(), "300 cuts")
		require.Equal(t, !good, strings.Contains(out.String(), "to repeat: go test x"))
	}
}

func TestACrashReportWithoutLinesIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crash.jsonl")
	_, err := newSummary(&bytes.Buffer{}).crashTable(path)
	require.Error(t, err)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = newSummary(&bytes.Buffer{}).crashTable(path)
	require.ErrorContains(t, err, "no crash test")
}
