package crashlayers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func TestCrashTestsAreFoundByWhatTheyReach(t *testing.T) {
	root := t.TempDir()
	const imports = "import (\n\"testing\"\nlevel \"" + crashlevelPath + "\"\n)\n"
	write(t, root, "go.mod", "module "+modulePath)
	write(t, root, "ingestor/wal/a_test.go", "package wal_test\n"+imports+`
func TestDirect(t *testing.T) { level.Start(t, "", "", "") }
func helper(t *testing.T)     { level.Start(t, "", "", "") }
`)
	write(t, root, "ingestor/wal/b_test.go", `package wal
import "testing"
func TestThroughAnother(t *testing.T) { t.Run("x", func(t *testing.T) { step(t) }) }
func step(t *testing.T)               { helper(t) }
func TestPlain(t *testing.T)          { level := 1; _ = level }
func TestMain(m *testing.M)           { step(nil) }
func Testable(t *testing.T)           { helper(t) }
`)
	write(t, root, "ingestor/plain/c_test.go", "package plain\nimport \"testing\"\nfunc TestPlain(t *testing.T) {}")
	write(t, root, "crashtest/rig.go", "package crashtest\n"+imports+"func Begin(t testing.TB) { level.Start(t, \"\", \"\", \"\") }\nfunc Other() {}")
	write(t, root, "crashtest/containers/go.mod", "module "+modulePath+"/crashtest/containers")
	write(t, root, "crashtest/containers/d_test.go", "package containers\nimport (\"testing\"\n\""+modulePath+`/crashtest")
func TestByItsRig(t *testing.T) { crashtest.Begin(t) }
func TestOther(t *testing.T)    { crashtest.Other() }
`)
	write(t, root, "crashtest/acks/e_test.go", "package acks\nimport \"testing\"\nfunc TestAcks(t *testing.T) {}")

	packages, err := Find(root)
	require.NoError(t, err)
	require.Equal(t, []Package{
		{Module: ".", Path: "./ingestor/wal", Tests: []string{"TestDirect", "TestThroughAnother"}},
		{Module: ".", Path: "./crashtest", Whole: true},
		{Module: "crashtest/containers", Path: ".", Tests: []string{"TestByItsRig"}, Whole: true},
	}, packages)
	require.Equal(t, "^(TestDirect|TestThroughAnother)$", packages[0].Pattern())
	require.Equal(t, ".", packages[1].Pattern())
	require.Equal(t, filepath.Join("crashtest", "containers"), packages[2].Dir())
}
