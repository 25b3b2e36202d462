package crashtest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// exitRefused is the exit code of a server, or a tool, that finds the log damaged.
const exitRefused = 3

// segmentsNeeded is how many segments a log must have before it is damaged, the newest included. One more is waited for: the oldest
// is flushed and may be dropped until the server is dead.
const segmentsNeeded = 5

// newestBatches are more than 64 KiB of them, whichever loads they come from: one in four has 20 records or more.
const newestBatches = 120

// TestARepairedLogIsServed damages logs as no crash does. The server must refuse them, `wal repair` must make them usable, and then all
// that it has not reported as lost must be stored.
func TestARepairedLogIsServed(t *testing.T) {
	cases := map[string]func(t *testing.T, segments []string){
		"a changed byte":                  func(t *testing.T, s []string) { changeByte(t, s[2]) },
		"an inner segment is gone":        func(t *testing.T, s []string) { remove(t, s[2]) },
		"the oldest segments are gone":    func(t *testing.T, s []string) { remove(t, s[0], s[1]) },
		"the oldest begin with zeros":     func(t *testing.T, s []string) { zero(t, 0, s[0], s[1]) },
		"an inner one begins with zeros":  func(t *testing.T, s []string) { zero(t, 4096, s[3]) },
		"every segment begins with zeros": func(t *testing.T, s []string) { zero(t, 0, s...) },
		"only the newest segment is left": func(t *testing.T, s []string) { remove(t, s[:len(s)-1]...) },
	}
	run := crashlevel.Start(t, "damaged logs, repaired", "logs", packagePath)
	for name, damage := range cases {
		run.Explored(1)
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), roundTimeout)
			defer cancel()
			c := startCampaign(t, rngOf(run, len(name)), serverproc.Options{Config: crashtest.WithoutFlush()}, "")
			require.NoError(t, c.Load(ctx, 50))
			require.NoError(t, c.DrainAndJudge(ctx))
			require.NoError(t, c.Restart(ctx))
			walDir := filepath.Join(c.DataDir(), "wal")
			newest, since := 0, uint64(0)
			require.NoError(t, c.LoadUntil(ctx, func() (bool, error) {
				segments, err := filepath.Glob(filepath.Join(walDir, "*.wal"))
				if len(segments) != newest {
					newest, since = len(segments), c.AckedNow()
				}
				// The newest one holds more than is damaged of it: no one can say what is lost behind the last legible frame of all.
				return newest > segmentsNeeded && c.AckedNow() > since+newestBatches, err
			}))
			_, err := c.Kill()
			require.NoError(t, err)
			segments, err := filepath.Glob(filepath.Join(walDir, "*.wal"))
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(segments), segmentsNeeded)
			damage(t, segments)

			var refused *serverproc.StartError
			require.ErrorAs(t, c.Restart(ctx), &refused)
			require.Equal(t, exitRefused, refused.Status.Code, refused.LogTail)
			require.Regexp(t, refusal, refused.LogTail, "a refusal names segment, offset and reason")
			lost := repair(t, walDir)
			require.Positive(t, lost)

			require.NoError(t, c.Restart(ctx))
			require.NoError(t, c.Load(ctx, 50), "the server takes new batches")
			require.NoError(t, c.Drain(ctx))
			report, err := c.Report(ctx)
			require.NoError(t, err)
			t.Logf("%d records said to be lost; %s", lost, report)
			// Batches without an answer may be among the lost, also where later ones are not.
			require.LessOrEqual(t, report.Missing, lost)
			report.Missing, report.Holes = 0, 0
			require.True(t, report.OK(), "%s\n%+v", report, report.Examples)
		})
	}
}

var lostRange = regexp.MustCompile(`(?m)^lost: LSN (\d+) to (\d+)$`)

// refusal is how a start that is refused says where the log is damaged.
var refusal = regexp.MustCompile(`\d{16}\.wal.*(byte|offset) \d+: \S`)

// repair runs the tool and returns how many records it says are lost.
func repair(t *testing.T, walDir string) (lost uint64) {
	t.Helper()
	out, err := exec.Command(serverBinary(t), "wal", "repair", walDir).CombinedOutput()
	require.NoError(t, err, string(out))
	for _, match := range lostRange.FindAllSubmatch(out, -1) {
		first, err := strconv.ParseUint(string(match[1]), 10, 64)
		require.NoError(t, err)
		last, err := strconv.ParseUint(string(match[2]), 10, 64)
		require.NoError(t, err)
		lost += last - first + 1
	}
	return lost
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		require.NoError(t, os.Remove(path))
	}
}

// zero clears 64 KiB of files, or what they have of it: the oldest segment was cut to its content when the next one began.
func zero(t *testing.T, offset int, paths ...string) {
	t.Helper()
	for _, path := range paths {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		clear(content[offset:min(len(content), offset+64<<10)])
		require.NoError(t, os.WriteFile(path, content, 0o644))
	}
}

// changeByte flips a bit of the first byte behind a segment's first quarter that is not zero, hence not padding. A segment has a successor
// because a group, which takes half a segment at most, found no room in it: its first quarter is full, however the groups fell.
func changeByte(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	tail := content[len(content)/4:]
	at := bytes.IndexFunc(tail, func(r rune) bool { return r != 0 })
	require.GreaterOrEqual(t, at, 0)
	tail[at] ^= 1
	require.NoError(t, os.WriteFile(path, content, 0o644))
}
