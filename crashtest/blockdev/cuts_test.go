package blockdev

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// serverBinary is the built server. It is not built here: what is tested is what will be run.
func serverBinary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("INGESTOR_SERVER_BIN")
	if path == "" {
		path = filepath.Join("..", "..", "bin", "ingestion-server")
	}
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	_, err = os.Stat(path)
	require.NoError(t, err, "build the server first: make build")
	return path
}

func newTrial(t *testing.T, h *Host, fs FileSystem, rng *rand.Rand) *Trial {
	t.Helper()
	return &Trial{Host: h, FS: fs, Dir: t.TempDir(), Server: serverproc.Options{Binary: serverBinary(t)},
		Rules: Rules{FlushTime: time.Duration(rng.IntN(5)) * time.Millisecond}, Rng: rng}
}

// momentsInTrial and statesOfMoment say how many states one life of a file system gives.
const (
	momentsInTrial = 6
	statesOfMoment = 2
)

// choose draws a choice; kinds come round, so that few states have all of them.
func choose(rng *rand.Rand, number int) Choice {
	return Choice{Kind: ChoiceKind(number % int(choiceKinds)), Seed: rng.Uint64(), TearBytes: []int64{SectorBytes, BlockBytes}[rng.IntN(2)]}
}

func TestCutsOnExt4(t *testing.T) { testCuts(t, Ext4, "block-level cuts, ext4") }

func TestCutsOnXFS(t *testing.T) { testCuts(t, XFS, "block-level cuts, XFS") }

func testCuts(t *testing.T, fs FileSystem, layer string) {
	h := newHost(t)
	wanted := crashlevel.Pick(t, 3, 24, 3000)
	run := crashlevel.Start(t, layer, "states", "./crashtest/blockdev")
	rng := rand.New(rand.NewPCG(run.Seed(), 0))
	c := cuts{t: t, run: run, rng: rng, wanted: wanted}
	for c.done < wanted && !t.Failed() {
		trial := newTrial(t, h, fs, rng)
		moments, err := trial.Record(context.Background(), min(momentsInTrial, wanted))
		require.NoError(t, err)
		for _, m := range moments {
			states := statesOfMoment
			if m.Pending() == 0 {
				states = 1 // there is only one
			}
			for range states {
				c.judge(trial, m, c.done)
			}
		}
	}
	t.Logf("writes: %d lost, %d kept, %d torn; %d of the states are those of a cut during recovery; %d acked records judged",
		c.tally.Lost, c.tally.Whole, c.tally.Torn, c.recovering, c.acked)
	require.Positive(t, c.acked, "states without acked records prove nothing")
	require.Positive(t, c.tally.Lost+c.tally.Torn, "cuts that take nothing prove nothing")
}

// cuts is a run of the test.
type cuts struct {
	t      *testing.T
	run    *crashlevel.Run
	rng    *rand.Rand
	wanted int
	done   int

	tally      Tally
	acked      uint64
	recovering int
}

// judge judges a state and, where the power might have gone again while that one was recovered, a state of that.
func (c *cuts) judge(trial *Trial, m *Moment, number int) {
	if c.done >= c.wanted {
		return
	}
	outcome, err := trial.Judge(context.Background(), m, choose(c.rng, number))
	require.NoError(c.t, err)
	c.run.Explored(1)
	c.done++
	c.tally.Lost += outcome.Lost
	c.tally.Whole += outcome.Whole
	c.tally.Torn += outcome.Torn
	c.acked += outcome.Acked
	if m.Depth == 0 && outcome.Recovering != nil {
		c.recovering++
		c.judge(trial, outcome.Recovering, c.rng.IntN(int(choiceKinds)))
	}
}
