package blockdev

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// newHost is a host for a test, or the test's end where the machine has not what it needs.
func newHost(t *testing.T) *Host {
	t.Helper()
	missing := func(what string) {
		t.Helper()
		if os.Getenv("CI") == "true" {
			t.Fatal("needs " + what)
		}
		t.Skip("needs " + what)
	}
	if os.Getuid() != 0 {
		missing("root")
	}
	for _, device := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(device); err != nil {
			missing(device)
		}
	}
	for _, tool := range append(Ext4.tools(), XFS.tools()...) {
		if _, err := exec.LookPath(tool); err != nil {
			missing(tool)
		}
	}
	h, err := NewHost()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}
