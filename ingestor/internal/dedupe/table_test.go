package dedupe

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func stamp(producer byte, epoch uint32, sequence, firstLSN uint64) *Stamp {
	return &Stamp{
		Tenant: "acme", Producer: ProducerID{producer}, Epoch: epoch, Sequence: sequence, FirstLSN: firstLSN, Records: 10,
	}
}

func verdict(t *Table, s *Stamp) Verdict {
	v, _, _ := t.Check(s)
	return v
}

func TestVerdicts(t *testing.T) {
	table := New(10)
	require.Equal(t, Fresh, verdict(table, stamp(1, 0, 1, 0)))
	table.Apply(stamp(1, 5, 10, 1))
	table.Apply(stamp(1, 5, 12, 11)) // 11 was refused: a gap

	cases := []struct {
		name  string
		stamp *Stamp
		want  Verdict
		first uint64
	}{
		{"next", stamp(1, 5, 13, 0), Fresh, 0},
		{"gap", stamp(1, 5, 99, 0), Fresh, 0},
		{"last again", stamp(1, 5, 12, 0), Duplicate, 11},
		{"earlier again", stamp(1, 5, 10, 0), Duplicate, 1},
		{"the gap itself", stamp(1, 5, 11, 0), OutOfOrder, 0},
		{"below the window", stamp(1, 5, 1, 0), OutOfOrder, 0},
		{"lower epoch", stamp(1, 4, 13, 0), Fenced, 0},
		{"higher epoch", stamp(1, 6, 1, 0), Fresh, 0},
		{"another producer", stamp(2, 0, 12, 0), Fresh, 0},
		{"another tenant", &Stamp{Tenant: "other", Producer: ProducerID{1}, Epoch: 5, Sequence: 12}, Fresh, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v, first, _ := table.Check(c.stamp)
			require.Equal(t, c.want, v)
			require.Equal(t, c.first, first)
		})
	}
	table.Apply(stamp(1, 6, 1, 21))
	require.Equal(t, OutOfOrder, verdict(table, stamp(1, 6, 0, 0)))
	require.Equal(t, Fenced, verdict(table, stamp(1, 5, 12, 0)), "the old epoch's window is gone")
}

func TestWindowHoldsTheLastBatches(t *testing.T) {
	table := New(10)
	const batches = 3*WindowBatches + 7
	for i := uint64(1); i <= batches; i++ {
		table.Apply(stamp(1, 1, i, i*10))
	}
	for i := uint64(1); i <= batches; i++ {
		v, first, records := table.Check(stamp(1, 1, i, 0))
		if i > batches-WindowBatches {
			require.Equal(t, Duplicate, v)
			require.Equal(t, i*10, first)
			require.Equal(t, uint32(10), records)
		} else {
			require.Equal(t, OutOfOrder, v)
		}
	}
}

func TestStagedBatchesCountUntilDiscarded(t *testing.T) {
	table := New(10)
	table.Apply(stamp(1, 1, 5, 1))
	before := table.AppendSnapshot(nil)

	table.Stage(stamp(1, 1, 6, 11))
	table.Stage(stamp(1, 2, 1, 21))
	table.Stage(stamp(2, 1, 1, 31))
	require.Equal(t, Fenced, verdict(table, stamp(1, 1, 7, 0)))
	v, first, _ := table.Check(stamp(1, 2, 1, 0))
	require.Equal(t, Duplicate, v)
	require.Equal(t, uint64(21), first)
	require.Equal(t, Duplicate, verdict(table, stamp(2, 1, 1, 0)))

	table.DiscardStaged()
	require.Equal(t, before, table.AppendSnapshot(nil))
	require.Equal(t, Fresh, verdict(table, stamp(1, 1, 6, 0)))
	require.Equal(t, Fresh, verdict(table, stamp(2, 1, 1, 0)))
	require.Len(t, table.producers, 1)
}

func TestProducersAreForgottenByAge(t *testing.T) {
	table := New(2)
	table.Apply(stamp(1, 1, 1, 1))
	table.Apply(stamp(2, 1, 1, 11))
	table.Apply(stamp(1, 1, 2, 21))
	table.Apply(stamp(3, 1, 1, 31))
	require.Equal(t, Fresh, verdict(table, stamp(2, 1, 1, 0)), "stored nothing for longest")
	require.Equal(t, Duplicate, verdict(table, stamp(1, 1, 1, 0)))
	require.Equal(t, uint64(1), table.Forgotten())
	require.Equal(t, 2, table.Producers())
}

// The committer stages a group while the one before is not committed yet, commits that one, and discards some; the processor applies
// what was stored. Both must agree about everything, whatever the bound on producers.
func TestCommitterAndProcessorAgree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	committer, processor := New(5), New(5)
	next := uint64(1)
	var underWay []Stamp
	for range 500 {
		var filling []Stamp
		lsn := next
		for range rng.IntN(12) {
			s := stamp(byte(rng.IntN(9)), uint32(1+rng.IntN(2)), uint64(1+rng.IntN(400)), lsn)
			if verdict(committer, s) != Fresh {
				continue
			}
			committer.Stage(s)
			filling = append(filling, *s)
			lsn += uint64(s.Records)
		}
		committer.CommitStaged(len(underWay))
		for i := range underWay {
			processor.Apply(&underWay[i])
		}
		for i := range filling {
			require.NotEqual(t, Fresh, verdict(committer, &filling[i]), "staged, whoever was forgotten meanwhile")
		}
		if underWay = filling; rng.IntN(4) == 0 {
			committer.DiscardStaged()
			underWay, lsn = nil, next
			require.Equal(t, committer.AppendSnapshot(nil), processor.AppendSnapshot(nil))
		}
		next = lsn
	}
}

func TestApplyingTwiceIsApplyingOnce(t *testing.T) {
	table := New(10)
	for i := uint64(1); i <= 5; i++ {
		table.Apply(stamp(1, 1, i, i*10))
	}
	before := table.AppendSnapshot(nil)
	for i := uint64(1); i <= 5; i++ {
		table.Apply(stamp(1, 1, i, i*10))
	}
	require.Equal(t, before, table.AppendSnapshot(nil))
}

func TestCheckDoesNotAllocate(t *testing.T) {
	table := New(10)
	table.Apply(stamp(1, 1, 1, 1))
	s := stamp(1, 1, 2, 11)
	require.Zero(t, testing.AllocsPerRun(100, func() { table.Check(s) }))
}

func BenchmarkCheckStageCommit(b *testing.B) {
	table := New(1000)
	s := stamp(1, 1, 0, 1)
	b.ReportAllocs()
	for b.Loop() {
		s.Sequence++
		s.FirstLSN += 10
		s.Producer[0] = byte(s.Sequence % 64)
		table.Check(s)
		table.Stage(s)
		table.CommitStaged(1)
	}
}
