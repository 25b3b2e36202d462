//go:build linux && amd64

package syscalls

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

func TestMain(m *testing.M) {
	Launch()
	if dataDir := os.Getenv(probeEnv); dataDir != "" {
		if err := probe(dataDir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

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

// play runs a session.
func play(t *testing.T, s *Session) (*Result, error) {
	t.Helper()
	// In memory where possible: no power is cut here, a disk would only make it slower. The name of a socket is short.
	parent := "/dev/shm"
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "syscalls-")
	require.NoError(t, err)
	defer func() { require.NoError(t, os.RemoveAll(dir)) }()
	s.Dir = dir
	return s.Run(context.Background())
}

// changes are the calls that leave something behind.
var changes = []string{"mkdirat", "renameat", "renameat2", "unlinkat", "write", "pwrite64", "pwritev", "fsync", "fdatasync", "ftruncate", "fallocate"}

// walk lists all faults in an order in which each site has its turn early, those that change something first, and then again and again. Which
// of a site's calls and which fault it is, is left to chance.
func walk(counts map[Site]int, rng *rand.Rand) []Fault {
	var rounds [][]Fault
	sites := slices.SortedFunc(maps.Keys(counts), func(a, b Site) int { return strings.Compare(a.String(), b.String()) })
	for _, site := range sites {
		var faults []Fault
		for n := range counts[site] {
			for kind := range kinds {
				faults = append(faults, Fault{site, n + 1, kind})
			}
		}
		rng.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for i, f := range faults {
			if i == len(rounds) {
				rounds = append(rounds, nil)
			}
			rounds[i] = append(rounds[i], f)
		}
	}
	for _, round := range rounds {
		rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		slices.SortStableFunc(round, func(a, b Fault) int { return rank(a) - rank(b) })
	}
	return slices.Concat(rounds...)
}

func rank(f Fault) int {
	if slices.Contains(changes, f.Call) {
		return 0
	}
	return 1
}

func TestEverySystemCall(t *testing.T) {
	binary := serverBinary(t)
	run := crashlevel.Start(t, "system calls", "injections", "./crashtest/syscalls")
	rng := rand.New(rand.NewPCG(run.Seed(), 0))
	sound, err := play(t, &Session{Binary: binary, Rng: rng})
	require.NoError(t, err)
	require.Positive(t, sound.Acked)
	for _, site := range []Site{{"pwrite64", segment}, {"fdatasync", segment}, {"pwrite64", parquet}, {"pwrite64", manifest}, {"pwrite64", dedupe}} {
		require.Positive(t, sound.Counts[site], "the script must reach %s; it has %v", site, sound.Counts)
	}
	faults := walk(sound.Counts, rng)
	wanted := min(crashlevel.Pick(t, 5, 60, len(faults)), len(faults))
	hit := map[Site]int{}
	missed := 0
	for _, fault := range faults {
		if wanted == 0 {
			break
		}
		result, err := play(t, &Session{Binary: binary, Rng: rng, Fault: &fault})
		if err != nil {
			run.Violation()
			t.Errorf("%s: %v", fault, err)
			wanted--
			continue
		}
		if result.Hit == "" {
			missed++ // the session had fewer calls of this kind than the first
			continue
		}
		wanted--
		run.Explored(1)
		hit[fault.Site]++
	}
	t.Logf("of %d calls at %d sites; %d did not come this time; faults:%s", len(faults)/int(kinds), len(sound.Counts), missed, table(hit))
	require.NotEmpty(t, hit)
}

func table(hit map[Site]int) string {
	var text strings.Builder
	for _, site := range slices.SortedFunc(maps.Keys(hit), func(a, b Site) int { return strings.Compare(a.String(), b.String()) }) {
		fmt.Fprintf(&text, "\n  %4d %s", hit[site], site)
	}
	return text.String()
}
