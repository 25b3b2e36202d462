package ledger

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func header() Header {
	return Header{
		RunID: "00112233445566778899aabbccddeeff", Kind: Records, Spec: record.Spec{Seed: 7}.WithDefaults(),
		Tenants: []string{"acme", "bolt"}, Endpoints: []string{"orders", "clicks", "taps"},
	}
}

func batch(producer uint16, sequence uint64) Sent {
	return Sent{
		Batch: record.Batch{
			Producer: producer, Sequence: sequence, UnixMilli: 1_700_000_000_000 + int64(sequence), Records: 100,
			Endpoint: 2, Row: 12,
		},
		Epoch: 3, Tenant: 1,
	}
}

// write makes a ledger file of a few batches and returns its path.
func write(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	w, err := Create(path, header())
	require.NoError(t, err)
	for _, s := range []Sent{batch(0, 1), batch(0, 2), batch(9, 5), batch(9, 7), batch(9, 8)} {
		require.NoError(t, w.Sent(s))
	}
	require.NoError(t, w.Acked(Acked{Producer: 9, Epoch: 3, Sequence: 7, FirstLSN: 1001, Records: 100, Level: 2, Duplicate: true}))
	require.NoError(t, w.Acked(Acked{Producer: 0, Epoch: 3, Sequence: 1, FirstLSN: 1, Records: 100, Level: 3}))
	require.NoError(t, w.Refused(Refused{Producer: 9, Epoch: 3, Sequence: 8, Code: 10}))
	require.NoError(t, w.Close())
	return path
}

func TestReadGivesBackWhatWasWritten(t *testing.T) {
	l, err := Open(write(t))
	require.NoError(t, err)
	require.Equal(t, header(), l.Header)
	require.Zero(t, l.TornBytes)
	require.False(t, l.Crashed)
	require.Len(t, l.Producers, 2)

	sent := Batch{UnixMilli: 1_700_000_000_001, Row: 12, Records: 100, Endpoint: 2, Tenant: 1, State: Unknown}
	stored := sent
	stored.State, stored.FirstLSN, stored.Level = Stored, 1, 3
	require.Equal(t, &stored, l.Producers[0].Batch(1))
	require.Equal(t, Unknown, l.Producers[0].Batch(2).State)
	require.Nil(t, l.Producers[0].Batch(3))
	require.Nil(t, l.Producers[0].Batch(0))

	p := l.Producers[9]
	require.Equal(t, uint32(3), p.Epoch)
	require.Nil(t, p.Batch(4))
	require.Nil(t, p.Batch(6), "a gap")
	require.True(t, p.Batch(7).Duplicate)
	require.Equal(t, uint64(1001), p.Batch(7).FirstLSN)
	require.Equal(t, Absent, p.Batch(8).State)
	require.Equal(t, byte(10), p.Batch(8).Code)
}

func TestACrashIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	w, err := Create(path, header())
	require.NoError(t, err)
	require.NoError(t, w.Sent(batch(0, 1)))
	require.NoError(t, w.Crashed())
	require.NoError(t, w.Acked(Acked{Epoch: 3, Sequence: 1, FirstLSN: 1, Records: 100, Level: 2}))
	require.NoError(t, w.Sent(batch(0, 2)))
	require.NoError(t, w.Refused(Refused{Epoch: 3, Sequence: 2, Code: 10}))
	require.Equal(t, uint64(1), w.AckedBatches())
	require.Equal(t, uint64(1), w.RefusedBatches())
	require.NoError(t, w.Close())
	l, err := Open(path)
	require.NoError(t, err)
	require.True(t, l.Crashed)
	require.Equal(t, Stored, l.Producers[0].Batch(1).State)
	require.Equal(t, Absent, l.Producers[0].Batch(2).State)
}

func TestABatchThatWasTurnedDownStaysUnknownUntilItIsSettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	w, err := Create(path, header())
	require.NoError(t, err)
	read := func() *Batch {
		require.NoError(t, w.Flush())
		l, err := Open(path)
		require.NoError(t, err)
		return l.Producers[0].Batch(1)
	}
	require.NoError(t, w.Sent(batch(0, 1)))
	for range 2 {
		require.NoError(t, w.TurnedDown(Refused{Epoch: 3, Sequence: 1, Code: 9}))
		require.Equal(t, Unknown, read().State)
		require.True(t, read().TurnedDown)
	}
	require.NoError(t, w.Acked(Acked{Epoch: 3, Sequence: 1, FirstLSN: 1, Records: 100, Level: 2}))
	require.Equal(t, Stored, read().State)
	require.False(t, read().TurnedDown)
	require.NoError(t, w.TurnedDown(Refused{Epoch: 3, Sequence: 1, Code: 9}))
	require.NoError(t, w.Close())
	_, err = Open(path)
	require.ErrorContains(t, err, "a second answer")
}

// TestGoldenEntry fails when the format changes.
func TestGoldenEntry(t *testing.T) {
	e := entry{kind: kindAcked, code: 2, producer: 9, epoch: 3, sequence: 7, a: 1001, c: 100, d: 1}
	require.Equal(t, "02020900030000000700000000000000e9030000000000000000000000000000640000000100000019cca730",
		hex.EncodeToString(e.append(nil)))
	var parsed entry
	require.True(t, parsed.parse(e.append(nil)))
	require.Equal(t, e, parsed)
}

// TestTornTailAtEveryByte cuts the file everywhere: whole entries stay, the rest is reported as torn.
func TestTornTailAtEveryByte(t *testing.T) {
	content, err := os.ReadFile(write(t))
	require.NoError(t, err)
	start := len(content) - 8*entryBytes
	for end := range len(content) {
		l, err := Read(bytes.NewReader(content[:end]))
		if end < start {
			require.Error(t, err, "cut at %d, in the header", end)
			continue
		}
		require.NoError(t, err, "cut at %d", end)
		require.Equal(t, (end-start)%entryBytes, l.TornBytes)
		sent := 0
		for _, p := range l.Producers {
			for i := range p.Batches {
				if p.Batches[i].State != Unsent {
					sent++
				}
			}
		}
		require.Equal(t, min((end-start)/entryBytes, 5), sent)
	}
}

// TestDamageAnywhereIsSeen flips a bit of every byte.
func TestDamageAnywhereIsSeen(t *testing.T) {
	content, err := os.ReadFile(write(t))
	require.NoError(t, err)
	for i := range content {
		damaged := bytes.Clone(content)
		damaged[i] ^= 0x10
		l, err := Read(bytes.NewReader(damaged))
		if i >= len(content)-entryBytes {
			require.NoError(t, err)
			require.Equal(t, entryBytes, l.TornBytes, "the last entry counts as torn")
			continue
		}
		var corruption *CorruptionError
		require.ErrorAs(t, err, &corruption, "byte %d", i)
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	ack := Acked{Producer: 1, Epoch: 3, Sequence: 1, Records: 100}
	for name, write := range map[string]func(w *Writer) error{
		"answer without producer": func(w *Writer) error { return w.Acked(Acked{Producer: 2, Epoch: 3, Sequence: 1, Records: 100}) },
		"answer without batch":    func(w *Writer) error { return w.Acked(Acked{Producer: 1, Epoch: 3, Sequence: 2, Records: 100}) },
		"other count":             func(w *Writer) error { return w.Acked(Acked{Producer: 1, Epoch: 3, Sequence: 1, Records: 99}) },
		"other epoch":             func(w *Writer) error { return w.Acked(Acked{Producer: 1, Epoch: 4, Sequence: 1, Records: 100}) },
		"two answers":             func(w *Writer) error { return errors.Join(w.Acked(ack), w.Acked(ack)) },
		"sent twice":              func(w *Writer) error { return w.Sent(batch(1, 1)) },
		"sequence jumps":          func(w *Writer) error { return w.Sent(batch(1, 1<<30)) },
		"no records":              func(w *Writer) error { s := batch(1, 2); s.Records = 0; return w.Sent(s) },
		"unknown tenant":          func(w *Writer) error { s := batch(1, 2); s.Tenant = 2; return w.Sent(s) },
		"unknown endpoint":        func(w *Writer) error { s := batch(1, 2); s.Endpoint = 3; return w.Sent(s) },
	} {
		path := filepath.Join(t.TempDir(), "ledger")
		w, err := Create(path, header())
		require.NoError(t, err)
		require.NoError(t, w.Sent(batch(1, 1)))
		require.NoError(t, write(w))
		require.NoError(t, w.Close())
		_, err = Open(path)
		var corruption *CorruptionError
		require.ErrorAs(t, err, &corruption, name)
	}
}

func TestManyGoroutinesMayWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	w, err := Create(path, header())
	require.NoError(t, err)
	var writers sync.WaitGroup
	failures := make([]error, 8)
	for producer := range failures {
		writers.Go(func() {
			for sequence := range uint64(1000) {
				s := batch(uint16(producer), sequence+1)
				failures[producer] = errors.Join(failures[producer], w.Sent(s), w.Acked(Acked{
					Producer: s.Producer, Epoch: s.Epoch, Sequence: s.Sequence, FirstLSN: 1, Records: s.Records,
				}))
			}
		})
	}
	writers.Wait()
	require.NoError(t, errors.Join(failures...))
	require.NoError(t, w.Close())
	l, err := Open(path)
	require.NoError(t, err)
	require.Len(t, l.Producers, len(failures))
	for _, p := range l.Producers {
		require.Len(t, p.Batches, 1000)
		for i := range p.Batches {
			require.Equal(t, Stored, p.Batches[i].State)
		}
	}
}

func TestCreateDoesNotOverwrite(t *testing.T) {
	_, err := Create(write(t), header())
	require.ErrorIs(t, err, os.ErrExist)
}

func TestFailedWriteIsKept(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "ledger"), header())
	require.NoError(t, err)
	require.NoError(t, w.Sent(batch(0, 1)))
	require.NoError(t, w.file.Close())
	require.Error(t, w.Flush())
	require.Error(t, w.Sent(batch(0, 2)))
}

func FuzzRead(f *testing.F) {
	content, err := os.ReadFile(write(f))
	require.NoError(f, err)
	f.Add(content)
	f.Add(content[:len(content)-20])
	f.Fuzz(func(t *testing.T, content []byte) {
		l, err := Read(bytes.NewReader(content))
		if err != nil {
			var corruption *CorruptionError
			require.ErrorAs(t, err, &corruption)
			return
		}
		require.LessOrEqual(t, l.TornBytes, entryBytes)
		for _, p := range l.Producers {
			for i := range p.Batches {
				b := p.Batch(p.First + uint64(i))
				require.True(t, b == nil || b.Records > 0 && int(b.Tenant) < len(l.Header.Tenants))
			}
		}
	})
}

// TestALedgerAsOfACrash cuts the ledger after every byte: answers that may have come after the crash are not in it, what was sent by then is.
func TestALedgerAsOfACrash(t *testing.T) {
	path := write(t)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	dir := t.TempDir()
	head := int64(len(content) - 8*entryBytes)
	for answered := int64(0); answered <= int64(len(content)); answered += 11 {
		for _, sent := range []int64{answered, min(answered+3*entryBytes, int64(len(content))), int64(len(content))} {
			cut := filepath.Join(dir, "cut")
			require.NoError(t, CopyAsOf(cut, path, Extent{AnsweredBytes: answered, SentBytes: sent}))
			l, err := Open(cut)
			require.NoError(t, err)
			require.NoError(t, os.Remove(cut))
			require.Zero(t, l.TornBytes)
			count := map[State]int{}
			for _, p := range l.Producers {
				for _, b := range p.Batches {
					count[b.State]++
				}
			}
			entries, answers := max(0, int((sent-head)/entryBytes)), max(0, int((answered-head)/entryBytes)-5)
			require.Equal(t, answers, count[Stored]+count[Absent], "%d %d", answered, sent)
			require.Equal(t, min(5, entries), count[Stored]+count[Absent]+count[Unknown], "%d %d", answered, sent)
		}
	}
	require.Error(t, CopyAsOf(filepath.Join(dir, "beyond"), path, Extent{SentBytes: int64(len(content)) + entryBytes}))
}
