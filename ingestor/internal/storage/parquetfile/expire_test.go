package parquetfile_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/retention"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

func cutoffs(now time.Time, kept time.Duration, tenants map[string]time.Duration) retention.Cutoffs {
	return retention.Policy{Default: kept, Tenants: tenants}.At(now)
}

// Files whose rows are all too old leave the manifest at once, and the disk when readers have had time to let go of them.
func TestExpireTakesWholeFilesOfEachTenant(t *testing.T) {
	g := newGenerator(t, rand.Uint64())
	fsys := crashfs.New()
	s := openStore(t, fsys, "", func(o *parquetfile.Options) { o.DeleteAfter = time.Hour })
	var specs []spec
	for hour := range 5 {
		start := noon.Add(time.Duration(hour) * time.Hour).Truncate(time.Hour)
		for _, tenant := range []string{"acme", "archive", "globex"} {
			specs = append(specs, spec{tenant: tenant, endpoint: "orders", records: 150, start: start, spread: time.Hour - 1})
		}
	}
	require.NoError(t, s.Flush(t.Context(), g.generation(specs...), 0))
	before := s.manifest.State().Files
	require.Len(t, before, 15)

	end := noon.Truncate(time.Hour).Add(5 * time.Hour)
	at := cutoffs(end, 3*time.Hour, map[string]time.Duration{"archive": 0, "globex": 90 * time.Minute})
	rows, err := s.Expire(t.Context(), at)
	require.NoError(t, err)
	require.EqualValues(t, 2*150+3*150, rows, "acme keeps three hours; globex one and a half, hence two files; archive all")
	kept := map[string]int{}
	for path, f := range s.manifest.State().Files {
		kept[f.Tenant]++
		require.Equal(t, before[path], f)
	}
	require.Equal(t, map[string]int{"acme": 3, "archive": 5, "globex": 2}, kept)
	require.Len(t, s.files(t), 15, "a reader may still hold the former manifest")

	// What is left is what was young enough, record by record.
	var want []record
	for _, r := range g.sent {
		cutoff := at.Of(r.Tenant)
		if r.Tenant == "globex" {
			whole := cutoff.Truncate(time.Hour) // the file that the cutoff lies in stays
			cutoff = &whole
		}
		if cutoff == nil || r.TimeUnixNano >= cutoff.UnixNano() {
			want = append(want, r)
		}
	}
	requireKept(t, want, s)

	rows, err = s.Expire(t.Context(), at)
	require.NoError(t, err)
	require.Zero(t, rows)
	require.Len(t, s.files(t), 15)
	s.close()

	// A start removes what the manifest does not list.
	s = openStore(t, fsys, "", nil)
	require.Len(t, s.files(t), 10)
	requireKept(t, want, s)
}

func requireKept(t *testing.T, want []record, s *store) {
	t.Helper()
	got := s.readAll(t)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i].LSN, got[i].LSN)
		require.Equal(t, want[i].EventID, got[i].EventID)
		require.Equal(t, want[i].Payload, got[i].Payload)
	}
}

func TestExpiredFilesAreDeletedAfterTheGracePeriod(t *testing.T) {
	g := newGenerator(t, rand.Uint64())
	s := openStore(t, crashfs.New(), "", func(o *parquetfile.Options) { o.DeleteAfter = time.Nanosecond })
	require.NoError(t, s.Flush(t.Context(), g.generation(spec{tenant: "acme", endpoint: "orders", records: 150, start: noon}), 0))
	at := cutoffs(noon.Add(48*time.Hour), time.Hour, nil)
	rows, err := s.Expire(t.Context(), at)
	require.NoError(t, err)
	require.EqualValues(t, 150, rows)
	require.Len(t, s.files(t), 1)
	require.Eventually(t, func() bool { // the clock has to move by a nanosecond
		_, err := s.Expire(t.Context(), at)
		require.NoError(t, err)
		return len(s.files(t)) == 0
	}, 10*time.Second, time.Millisecond)

	// A checkpoint of what has expired is still one: nothing is flushed again.
	flushed, err := s.Flushed(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 150, flushed)
}

// A power cut at any moment of an Expire leaves the files from before or those from after, whole.
func TestExpireSurvivesPowerCuts(t *testing.T) {
	seed := rand.Uint64()
	g := newGenerator(t, seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	fsys := crashfs.New()
	require.NoError(t, fsys.MkdirAll("data", 0o755)) // durable before anything is written to it: package datadir sees to that
	require.NoError(t, fsys.SyncDir("."))
	s := openStore(t, fsys, "", func(o *parquetfile.Options) { o.DeleteAfter = time.Nanosecond })
	old, young := noon, noon.Add(24*time.Hour)
	require.NoError(t, s.Flush(t.Context(), g.generation(
		spec{tenant: "acme", endpoint: "orders", records: 150, start: old}, spec{tenant: "acme", endpoint: "orders", records: 150, start: young},
	), 0))
	at := cutoffs(young, time.Hour, nil)
	states := 0
	fsys.Before(func(op crashfs.Op) error {
		for range 20 {
			states++
			after, err := tryOpenStore(fsys.Crash(rng), "", nil)
			require.NoError(t, err, "before %s of %s", op.Kind, op.Name)
			rows := after.readAll(t)
			switch len(rows) {
			case 300:
				requireSame(t, slices.Clone(g.sent), rows)
			case 150:
				requireKept(t, g.sent[150:], after)
			default:
				t.Fatalf("%d rows before %s of %s", len(rows), op.Kind, op.Name)
			}
			require.Equal(t, slices.Sorted(maps.Keys(after.manifest.State().Files)), sorted(after.files(t)))
			after.close()
		}
		return nil
	})
	for range 3 {
		_, err := s.Expire(t.Context(), at)
		require.NoError(t, err)
	}
	fsys.Before(nil)
	require.Positive(t, states)
	requireKept(t, g.sent[150:], s)
}

func sorted(paths []string) []string {
	for i := range paths {
		paths[i] = strings.TrimPrefix(paths[i], "./")
	}
	slices.Sort(paths)
	return paths
}
