package blockdev

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// withoutSyncs answers these calls of the server at once, without making them.
func withoutSyncs(t *testing.T, calls string) []string {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs strace")
		}
		t.Skip("needs strace")
	}
	return []string{"strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=" + calls, "-e", "inject=" + calls + ":retval=0"}
}

// TestTheJudgeSeesSyncsThatAreMissing plants what this layer is to find: devices and servers that do not do what they say. Where nothing
// reached the medium after the last true flush, acked records must be missing. Honest runs are judged sound
// by the tests of cuts.
func TestTheJudgeSeesSyncsThatAreMissing(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, trial *Trial){
		"a device that ignores flushes":       func(_ *testing.T, trial *Trial) { trial.Rules.IgnoreFlush = true },
		"a server that syncs nothing":         func(t *testing.T, trial *Trial) { trial.Wrap = withoutSyncs(t, "fsync,fdatasync") },
		"a server that never calls fdatasync": func(t *testing.T, trial *Trial) { trial.Wrap = withoutSyncs(t, "fdatasync") },
	} {
		t.Run(name, func(t *testing.T) {
			eachFileSystem(t, func(t *testing.T, h *Host, fs FileSystem, _ image) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				trial := newTrial(t, h, fs, rand.New(rand.NewPCG(seed, 0)))
				plant(t, trial)
				moments, err := trial.Record(context.Background(), 2)
				require.NoError(t, err)
				_, err = trial.Judge(context.Background(), moments[1], Choice{Kind: Nothing, TearBytes: BlockBytes})
				var violation *Violation
				require.ErrorAs(t, err, &violation)
				t.Log(violation.Stage, violation.Err)
			})
		})
	}
}
