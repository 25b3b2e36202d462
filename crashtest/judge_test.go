package crashtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/loadgen/verify"
)

// stored is a copy of a drained server's data directory.
type stored struct {
	t     *testing.T
	dir   string
	lines [][]byte // of the manifest, each with its line break
}

// newStored copies a data directory.
func newStored(t *testing.T, dataDir string) *stored {
	t.Helper()
	s := &stored{t: t, dir: filepath.Join(t.TempDir(), "data")}
	require.NoError(t, os.CopyFS(s.dir, os.DirFS(dataDir)))
	content, err := os.ReadFile(s.manifest())
	require.NoError(t, err)
	s.lines = bytes.SplitAfter(content, []byte("\n"))
	s.lines = s.lines[:len(s.lines)-1]
	return s
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
			s := newStored(t, c.DataDir())
			plant(s)
			report, err := c.ReportOn(t.Context(), s.dir)
			if err == nil {
				require.False(t, report.OK(), "%s", report)
			}
		})
	}
}

// newestSegment is the segment with the highest number.
func (s *stored) newestSegment() string {
	segments, err := filepath.Glob(filepath.Join(s.dir, "wal", "*.wal"))
	require.NoError(s.t, err)
	require.Greater(s.t, len(segments), 1)
	return segments[len(segments)-1]
}

// commit appends an edit to the manifest.
func (s *stored) commit(edit map[string]any) {
	var last struct{ Edit struct{ Seq int } }
	require.NoError(s.t, json.Unmarshal(s.lines[len(s.lines)-1], &last))
	edit["seq"] = last.Edit.Seq + 1
	s.write(append(slices.Clone(s.lines), s.line(edit))...)
}

// change changes a byte of a file.
func (s *stored) change(path string, offset int) {
	content, err := os.ReadFile(path)
	require.NoError(s.t, err)
	content[offset] ^= 1
	require.NoError(s.t, os.WriteFile(path, content, 0o644))
}

// TestTheJudgeSeesWhatIsPlantedInTheLog changes what a killed server has left. What is left is judged before anything recovers from it.
func TestTheJudgeSeesWhatIsPlantedInTheLog(t *testing.T) {
	c := startCampaign(t, rand.New(rand.NewPCG(2, 1)), serverproc.Options{}, "")
	require.NoError(t, c.Load(t.Context(), 300))
	require.NoError(t, c.DrainAndJudge(t.Context()))
	// Some is flushed. From here on all stays in the log.
	require.NoError(t, c.RestartWith(t.Context(), crashtest.WithoutFlush()))
	newest, since := 0, uint64(0)
	require.NoError(t, c.LoadSynced(t.Context(), func() (bool, error) {
		segments, err := filepath.Glob(filepath.Join(c.DataDir(), "wal", "*.wal"))
		if len(segments) > newest {
			newest, since = len(segments), c.AckedNow()
		}
		// More are acked than can have been under way when the newest segment began.
		return newest > 3 && c.AckedNow() > since+40, err
	}))
	_, err := c.Kill()
	require.NoError(t, err)
	_, err = c.JudgeRemains(t.Context())
	require.NoError(t, err, "nothing is planted yet")
	sound, err := crashtest.ReadRemains(t.Context(), c.DataDir(), "")
	require.NoError(t, err)

	for name, plant := range map[string]func(s *stored){
		"the newest segment is empty": func(s *stored) {
			path := s.newestSegment()
			content, err := os.ReadFile(path)
			require.NoError(s.t, err)
			clear(content[4096:])
			require.NoError(s.t, os.WriteFile(path, content, 0o644))
		},
		"the newest segment is gone":                 func(s *stored) { require.NoError(s.t, os.Remove(s.newestSegment())) },
		"a byte of the newest segment's first group": func(s *stored) { s.change(s.newestSegment(), 4096+100) },
		"a byte of an inner segment": func(s *stored) {
			segments, err := filepath.Glob(filepath.Join(s.dir, "wal", "*.wal"))
			require.NoError(s.t, err)
			s.change(segments[len(segments)-2], 4096+100)
		},
		"a byte of a segment's header": func(s *stored) { s.change(s.newestSegment(), 50) },
		"no log":                       func(s *stored) { require.NoError(s.t, os.RemoveAll(filepath.Join(s.dir, "wal"))) },
		"a checkpoint ahead of the log": func(s *stored) {
			s.commit(map[string]any{"flushed": map[string]any{"parquet": uint64(1) << 40}})
		},
		"a checkpoint moved back": func(s *stored) { // committed batches are not where they are said to be
			s.write(s.line(map[string]any{"seq": 1, "snapshot": true, "format": 1}))
		},
		"a manifest of another log": func(s *stored) {
			s.commit(map[string]any{"wal_id": "00112233445566778899aabbccddeeff"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStored(t, c.DataDir())
			plant(s)
			remains, err := crashtest.ReadRemains(t.Context(), s.dir, "")
			if err == nil {
				err = errors.Join(remains.CheckSinks(), remains.CheckAcks(c.Ledgers()...))
			}
			t.Log(err)
			require.Error(t, err)
			if remains != nil && name != "a checkpoint ahead of the log" {
				require.Error(t, sound.CheckSame(remains), "a recovery that leaves this has changed something")
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		again, err := crashtest.ReadRemains(t.Context(), newStored(t, c.DataDir()).dir, "")
		require.NoError(t, err)
		require.NoError(t, errors.Join(again.CheckSinks(), again.CheckAcks(c.Ledgers()...), sound.CheckSame(again)))
	})
}

// TestTheJudgeSeesWhatIsPlantedInALedger: what a client was told must not contradict itself.
func TestTheJudgeSeesWhatIsPlantedInALedger(t *testing.T) {
	c := startCampaign(t, rand.New(rand.NewPCG(3, 1)), serverproc.Options{}, "")
	require.NoError(t, c.Load(t.Context(), 50))
	require.NoError(t, c.DrainAndJudge(t.Context()))
	path := c.Ledgers()[0]
	book, err := ledger.Open(path)
	require.NoError(t, err)
	number, acked := uint16(0), uint64(0)
	for n, p := range book.Producers {
		if len(p.Batches) > 0 && p.Batches[0].State == ledger.Stored {
			number, acked = n, p.First
		}
	}
	require.NotZero(t, acked)
	first := book.Producers[number].Batches[0]
	for name, plant := range map[string]func(w *ledger.Writer) error{
		"acked, then refused": func(w *ledger.Writer) error {
			return errors.Join(w.Acked(ledger.Acked{Producer: number, Epoch: 1, Sequence: acked, FirstLSN: first.FirstLSN, Records: first.Records, Level: first.Level}),
				w.Refused(ledger.Refused{Producer: number, Epoch: 1, Sequence: acked, Code: 1}))
		},
		"refused, then acked": func(w *ledger.Writer) error {
			return errors.Join(w.Refused(ledger.Refused{Producer: number, Epoch: 1, Sequence: acked, Code: 1}),
				w.Acked(ledger.Acked{Producer: number, Epoch: 1, Sequence: acked, FirstLSN: first.FirstLSN, Records: first.Records, Level: first.Level}))
		},
		"refused, and stored": func(w *ledger.Writer) error {
			return w.Refused(ledger.Refused{Producer: number, Epoch: 1, Sequence: acked, Code: 1})
		},
		"acked with another LSN": func(w *ledger.Writer) error {
			return w.Acked(ledger.Acked{Producer: number, Epoch: 1, Sequence: acked, FirstLSN: first.FirstLSN + 1, Records: first.Records, Level: first.Level})
		},
	} {
		t.Run(name, func(t *testing.T) {
			planted := filepath.Join(t.TempDir(), "ledger")
			w, err := ledger.Create(planted, book.Header)
			require.NoError(t, err)
			batch := record.Batch{Producer: number, Sequence: acked, UnixMilli: first.UnixMilli, Records: first.Records, Endpoint: first.Endpoint}
			require.NoError(t, w.Sent(ledger.Sent{Batch: batch, Epoch: 1, Tenant: uint32(first.Tenant)}))
			require.NoError(t, plant(w))
			require.NoError(t, w.Close())
			report, err := verify.Parquet(t.Context(), c.DataDir(), planted)
			if err == nil {
				// All other batches are unexpected here; the one that is looked at must be so too, or be corrupt.
				require.Condition(t, func() bool { return report.Corrupt > 0 || report.Unexpected == report.Rows }, report.String())
			}
		})
	}
}

// TestTheJudgeSeesAServerThatIsNotBackInTime sets a bound that no server can meet.
func TestTheJudgeSeesAServerThatIsNotBackInTime(t *testing.T) {
	c := startCampaign(t, rand.New(rand.NewPCG(4, 1)), serverproc.Options{}, "")
	c.AgainBound = 1
	_, err := c.Round(t.Context(), 20, c.KillAtRandom)
	require.ErrorContains(t, err, "the bound is 1ns")
}
