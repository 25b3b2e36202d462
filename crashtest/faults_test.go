package crashtest_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// TestIOErrors goes round all the cases. At the gate nearly all of them must have found their operation.
func TestIOErrors(t *testing.T) {
	requireFuse(t)
	run := crashlevel.Start(t, "I/O errors (FUSE)", "faults", packagePath)
	cases := crashtest.FaultCases()
	rngOf(run, -1).Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	faults := crashlevel.Pick(t, 6, 3*len(cases), 60*len(cases))
	const each = 12
	var mu sync.Mutex
	hits := make(map[string]int)
	var all total
	inCampaigns(t, run, faults, each, func(t *testing.T, number int, rng *rand.Rand, crashes int) {
		c, power := onPower(t, rng, nil, "")
		next := number * each
		runRounds(t, c, crashes, func() error {
			f := cases[next%len(cases)]
			next++
			hit, err := power.Suffer(c, f)
			mu.Lock()
			defer mu.Unlock()
			if hits[f.String()] += 0; hit {
				hits[f.String()]++
			}
			return err
		})
		all.add(power.Disk)
	})
	t.Log(all.stats)
	found := 0
	for _, name := range slices.Sorted(maps.Keys(hits)) {
		found += min(hits[name], 1)
		t.Logf("%3d  %s", hits[name], name)
	}
	if faults >= 3*len(cases) && len(hits) == len(cases) { // and not one campaign alone
		// A few depend on luck: whether a file is made anew in the lives that are looked at.
		require.Greater(t, found, len(cases)*9/10, "faults that never found their operation prove nothing")
	}
}
