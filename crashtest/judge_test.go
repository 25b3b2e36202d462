package crashtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// stored is a copy of a drained server's data directory.
type stored struct {
	t     *testing.T
	dir   string
	lines [][]byte // of the manifest, each with its line break
}

func (s *stored) manifest() string { return filepath.Join(s.dir, "manifest", "MANIFEST.jsonl") }

func (s *stored) write(lines ...[]byte) {
	require.NoError(s.t, os.WriteFile(s.manifest(), bytes.Join(lines, nil), 0o644))
}

// adding returns the number of the first line, beside the first of all, that adds files, and the line's edit.
func (s *stored) adding() (number int, edit map[string]any) {
	for number, line := range s.lines {
		var parsed struct{ Edit map[string]any }
		require.NoError(s.t, json.Unmarshal(line, &parsed))
		if _, ok := parsed.Edit["add_files"]; ok && number > 0 {
			return number, parsed.Edit
		}
	}
	s.t.Fatal("no line adds files")
	return 0, nil
}

// addedFile returns the first of the files that are added there.
func (s *stored) addedFile() map[string]any {
	_, edit := s.adding()
	return edit["add_files"].([]any)[0].(map[string]any)
}

func (s *stored) parquet(file map[string]any) string {
	return filepath.Join(s.dir, "parquet", filepath.FromSlash(file["path"].(string)))
}

// line makes a line that proves itself.
func (s *stored) line(edit map[string]any) []byte {
	text, err := json.Marshal(edit)
	require.NoError(s.t, err)
	crc := crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli))
	return fmt.Appendf(nil, "{\"crc32c\":\"%08x\",\"edit\":%s}\n", crc, text)
}

// TestTheJudgeSeesWhatIsPlanted changes what a healthy server has stored. Each change must be a fault or leave no judgement.
func TestTheJudgeSeesWhatIsPlanted(t *testing.T) {
	c := startCampaign(t, rand.New(rand.NewPCG(1, 1)), serverproc.Options{}, "")
	require.NoError(t, c.Load(t.Context(), 500))
	require.NoError(t, c.DrainAndJudge(t.Context()))
	for name, plant := range map[string]func(s *stored){
		"a byte of a data file": func(s *stored) {
			path := s.parquet(s.addedFile())
			content, err := os.ReadFile(path)
			require.NoError(s.t, err)
			content[len(content)/2] ^= 1
			require.NoError(s.t, os.WriteFile(path, content, 0o644))
		},
		"a data file gone": func(s *stored) { require.NoError(s.t, os.Remove(s.parquet(s.addedFile()))) },
		"a line of the manifest gone": func(s *stored) {
			at, _ := s.adding()
			s.write(append(s.lines[:at:at], s.lines[at+1:]...)...)
		},
		"the end of the manifest gone": func(s *stored) {
			at, _ := s.adding()
			s.write(s.lines[:at]...)
		},
		"an edit that lists a file less": func(s *stored) {
			at, edit := s.adding()
			edit["add_files"] = edit["add_files"].([]any)[1:]
			s.lines[at] = s.line(edit)
			s.write(s.lines...)
		},
		"a file listed twice": func(s *stored) {
			at, edit := s.adding()
			edit["add_files"] = append(edit["add_files"].([]any), s.addedFile())
			s.lines[at] = s.line(edit)
			s.write(s.lines...)
		},
		"a file stored twice": func(s *stored) {
			at, edit := s.adding()
			file := s.addedFile()
			content, err := os.ReadFile(s.parquet(file))
			require.NoError(s.t, err)
			file["path"] = filepath.ToSlash(filepath.Dir(file["path"].(string))) + "/again.parquet"
			require.NoError(s.t, os.WriteFile(s.parquet(file), content, 0o644))
			edit["add_files"] = append(edit["add_files"].([]any), file)
			s.lines[at] = s.line(edit)
			s.write(s.lines...)
		},
		"no manifest": func(s *stored) { require.NoError(s.t, os.Remove(s.manifest())) },
	} {
		t.Run(name, func(t *testing.T) {
			s := &stored{t: t, dir: filepath.Join(t.TempDir(), "data")}
			require.NoError(t, os.CopyFS(s.dir, os.DirFS(c.DataDir())))
			content, err := os.ReadFile(s.manifest())
			require.NoError(t, err)
			s.lines = bytes.SplitAfter(content, []byte("\n"))
			s.lines = s.lines[:len(s.lines)-1]
			plant(s)
			report, err := c.ReportOn(t.Context(), s.dir)
			if err == nil {
				require.False(t, report.OK(), "%s", report)
			}
		})
	}
}
