package crashfs

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io/fs"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// every returns what a reader finds in all states of this moment, each of which it checks to be made by its number alone.
func every(t *testing.T, f *FS, sectorBytes int64, read func(*FS) string) map[string]int {
	t.Helper()
	s := f.Freeze().States(sectorBytes)
	require.True(t, s.Enumerable())
	seen := map[string]int{}
	for i := range s.Count() {
		found := read(s.State(i))
		require.Equal(t, found, read(s.State(i)))
		seen[found]++
	}
	return seen
}

// letters reads a file as one letter for each 512 bytes; "-" where there is no file.
func letters(name string) func(*FS) string {
	return func(f *FS) string {
		b, err := vfs.ReadFile(f, name)
		if errors.Is(err, fs.ErrNotExist) {
			return "-"
		}
		var text strings.Builder
		for len(b) > 0 {
			n := min(512, len(b))
			switch c := b[0]; {
			case bytes.Count(b[:n], []byte{c}) < n:
				text.WriteByte('?')
			case c == 0:
				text.WriteByte('0')
			default:
				text.WriteByte(c)
			}
			b = b[n:]
		}
		return text.String()
	}
}

func sectors(text string) []byte {
	var b []byte
	for _, c := range []byte(text) {
		b = append(b, bytes.Repeat([]byte{c}, 512)...)
	}
	return b
}

// TestStatesAreExactlyTheLegalOnes compares the states of small moments with lists made by hand.
func TestStatesAreExactlyTheLegalOnes(t *testing.T) {
	f := New()
	file := create(t, f, "a")
	require.NoError(t, f.SyncDir("."))
	writeAt(t, file, sectors("ab"), 0)

	look := func(sectorBytes int64) string {
		return strings.Join(sortedKeys(every(t, f, sectorBytes, letters("a"))), " ")
	}
	t.Run("an append", func(t *testing.T) {
		require.Equal(t, " 0 00 0? 0b ? ?0 ?? ?b a a0 a? ab", look(512))
		require.Equal(t, " 00 ?? ab", look(4096))
	})
	t.Run("an overwrite of one sector that was there, and of one that stays the same", func(t *testing.T) {
		require.NoError(t, file.Sync())
		writeAt(t, file, sectors("xb"), 0)
		require.Equal(t, "00 0? 0b ?0 ?? ?b a0 a? ab x0 x? xb", look(512))
		require.Equal(t, "00 ?? ab xb", look(4096))
	})
	t.Run("a truncation after it", func(t *testing.T) {
		require.NoError(t, file.Truncate(512))
		require.Equal(t, "0 00 ? ?? a ab x xb", look(4096))
	})
}

func TestNamesInAnySubset(t *testing.T) {
	names := func(f *FS) string {
		list, err := f.List(".")
		if err != nil {
			return err.Error()
		}
		for i, name := range list {
			if b, err := vfs.ReadFile(f, name); err == nil {
				list[i] += "=" + string(b)
			}
		}
		return strings.Join(list, " ")
	}
	f := New()
	for _, name := range []string{"a", "b"} {
		file := create(t, f, name)
		writeAt(t, file, []byte(name), 0)
		require.NoError(t, file.Sync())
	}
	require.NoError(t, f.SyncDir("."))
	require.NoError(t, f.Rename("a", "b"))
	require.NoError(t, f.Remove("b"))
	create(t, f, "c")
	require.NoError(t, f.MkdirAll("d", 0o755))
	require.Equal(t, map[string]int{
		"a=a b=b": 1, "a=a b=b c=": 1, "a=a b=b d": 1, "a=a b=b c= d": 1, // neither, or only the removal of another b
		"b=a": 1, "b=a c=": 1, "b=a d": 1, "b=a c= d": 1,
		"": 1, "c=": 1, "d": 1, "c= d": 1,
	}, every(t, f, 512, names))
}

// TestALostDirectoryTakesWhatIsInIt: files in it may be as durable as they like.
func TestALostDirectoryTakesWhatIsInIt(t *testing.T) {
	f := New()
	require.NoError(t, f.MkdirAll("d/e", 0o755))
	file := create(t, f, "d/e/a")
	writeAt(t, file, []byte("x"), 0)
	require.NoError(t, file.Sync())
	require.NoError(t, f.SyncDir("d/e"))
	require.NoError(t, f.SyncDir("d"))
	require.Equal(t, map[string]int{"-": 1, "x": 1}, every(t, f, 512, letters("d/e/a")))
	require.NoError(t, f.SyncDir("."))
	require.Equal(t, map[string]int{"x": 1}, every(t, f, 512, letters("d/e/a")))
	require.Error(t, f.Remove("d/e"), "it is not empty")
	require.NoError(t, f.Remove("d/e/a"))
	require.NoError(t, f.Remove("d/e"))
	_, err := f.List("d/e")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestAMomentStaysAsItWas: neither the file system that goes on nor the states that are written to change it.
func TestAMomentStaysAsItWas(t *testing.T) {
	f := New()
	file := create(t, f, "a")
	require.NoError(t, f.SyncDir("."))
	writeAt(t, file, sectors("ab"), 0)
	m := f.Freeze()
	was := every(t, m.Kill(), 512, letters("a"))
	require.Equal(t, "ab", letters("a")(m.Kill()))

	writeAt(t, file, sectors("xyz"), 0)
	require.NoError(t, file.Sync())
	require.NoError(t, f.Remove("a"))
	killed := m.Kill()
	open, err := killed.OpenFile("a", 0, 0)
	require.NoError(t, err)
	writeAt(t, open, sectors("k"), 0)
	require.NoError(t, open.Sync())
	states := m.States(512)
	for i := range states.Count() {
		state := states.State(i)
		if other, err := state.OpenFile("a", 0, 0); err == nil {
			writeAt(t, other, sectors("ssss"), 0)
			require.NoError(t, other.Sync())
		}
	}
	require.Equal(t, was, every(t, m.Kill(), 512, letters("a")))
	require.Equal(t, map[string]int{"kb": 1}, every(t, killed, 512, letters("a")))
}

// TestSamplesAreStates: what is drawn is among what is numbered, garbage apart, and all of it is drawn in the end.
func TestSamplesAreStates(t *testing.T) {
	f := New()
	file := create(t, f, "a")
	writeAt(t, file, sectors("abc"), 0)
	require.NoError(t, file.Sync())
	writeAt(t, file, sectors("xy"), 512)
	all := every(t, f, 512, letters("a"))
	drawn := map[string]int{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 4000 {
		drawn[letters("a")(f.Freeze().States(512).Sample(rng))]++
	}
	require.Equal(t, sortedKeys(all), sortedKeys(drawn))
}

// TestExplorerVisitsEachStateOnce, the same ones whenever it is asked with the same seed, however many processors there are.
func TestExplorerVisitsEachStateOnce(t *testing.T) {
	f := New()
	file := create(t, f, "a")
	writeAt(t, file, sectors("abc"), 0)
	small := f.Freeze()
	writeAt(t, file, sectors(strings.Repeat("abcd", 4)), 1000)
	large := f.Freeze()
	hash := maphash.MakeSeed()
	explore := func(seed uint64) (visited map[uint64]uint64, explored int64) {
		visited = map[uint64]uint64{}
		var mu sync.Mutex
		e := &Explorer{Seed: seed}
		for _, m := range []*Moment{small, large} {
			e.Moment(m, 1000, "", func(f *FS, seed uint64) error {
				mu.Lock()
				defer mu.Unlock()
				visited[f.Fingerprint(hash)] += seed
				return nil
			})
		}
		explored, complete, err := e.Wait()
		require.NoError(t, err)
		require.Equal(t, 1, complete)
		return visited, explored
	}
	one, explored := explore(1)
	again, _ := explore(1)
	other, _ := explore(2)
	require.True(t, maps.Equal(one, again))
	require.False(t, maps.Equal(one, other))
	require.LessOrEqual(t, int64(len(one)), explored, "the moments have some in common")
	require.Greater(t, len(one), 1000)
}

// TestExplorerSaysWhichState so that it can be made again.
func TestExplorerSaysWhichState(t *testing.T) {
	f := New()
	file := create(t, f, "a")
	require.NoError(t, f.SyncDir("."))
	writeAt(t, file, sectors("ab"), 0)
	e := &Explorer{Seed: 1}
	e.Moment(f.Freeze(), 1000, "before the sync", func(f *FS, _ uint64) error {
		if letters("a")(f) == "0b" {
			return errors.New("not this one")
		}
		return nil
	})
	_, _, err := e.Wait()
	require.ErrorContains(t, err, "before the sync: sectors of 512 bytes, state ")
	require.ErrorContains(t, err, "not this one")
}
