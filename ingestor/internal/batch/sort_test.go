package batch

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Whatever the order that records come in, sorting by digits gives what comparing gives.
func TestSortByTimeEqualsSortingByComparison(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	times := map[string]func(i int) int64{
		"sorted":        func(i int) int64 { return int64(i) * 3 },
		"equal":         func(int) int64 { return 7 },
		"reversed":      func(i int) int64 { return -int64(i) },
		"two clients":   func(i int) int64 { return int64(i/1000%2)*500 + int64(i) },
		"few times":     func(int) int64 { return rng.Int64N(5) },
		"hours":         func(int) int64 { return rng.Int64N(3_600_000_000_000) },
		"whole range":   func(int) int64 { return int64(rng.Uint64()) },
		"both extremes": func(i int) int64 { return []int64{math.MinInt64, math.MaxInt64, 0}[i%3] },
		"one late":      func(i int) int64 { return int64(i) - int64(i/4999)*100_000 },
	}
	for name, timeOf := range times {
		for _, n := range []int{0, 1, 2, minRadixRecords - 1, minRadixRecords, 5000} {
			for _, byLSN := range []bool{true, false} {
				rows := Rows{Refs: []Ref{{TimeUnixNano: math.MaxInt64, LSN: 0}}} // before begin: stays where it is
				for i := range n {
					ref := Ref{TimeUnixNano: timeOf(i), LSN: uint64(i + 1), EventOff: rng.Uint32()}
					if !byLSN {
						ref.LSN = uint64(n-i) ^ 1
					}
					rows.Refs = append(rows.Refs, ref)
				}
				want := slices.Clone(rows.Refs)
				slices.SortFunc(want[1:], compareTimes)
				rows.SortByTime(1)
				require.True(t, slices.Equal(want, rows.Refs), "%s, %d records, in the order of LSNs: %v", name, n, byLSN)
			}
		}
	}
}

func TestTrimKeepsWhatIsSmall(t *testing.T) {
	var rows Rows
	rows.Grow(5000)
	rows.Refs = rows.Refs[:5000]
	for i := range rows.Refs {
		rows.Refs[i] = Ref{TimeUnixNano: -int64(i), LSN: uint64(i)}
	}
	rows.SortByTime(0)
	rows.Attrs = make([]byte, 1000)
	rows.Reset()
	rows.Trim(10_000, 2000)
	require.NotZero(t, cap(rows.Refs))
	require.NotZero(t, cap(rows.Attrs))
	require.NotNil(t, rows.sorter)
	rows.Trim(100, 100)
	require.Zero(t, cap(rows.Refs))
	require.Zero(t, cap(rows.Attrs))
	require.Nil(t, rows.sorter)
}

// Equal attributes are written once, in whichever order a map was sent, as rows and as columns; different ones never mix, also
// where they share a slot, and a batch that is refused leaves nothing behind that a later one could find.
func TestEqualAttributesShareOneObject(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var rows Rows
	for round := range 3 {
		rows.Reset()
		var want []map[string]string
		for b := range 20 {
			req := &storagepb.WriteBatchRequest{EndpointId: "e"}
			for range 200 {
				attributes := map[string]string{}
				for k := range rng.IntN(4) {
					attributes[fmt.Sprint("key-", k)] = fmt.Sprint("value-", rng.IntN(3+b*b))
				}
				want = append(want, attributes)
				req.Records = append(req.Records, &storagepb.DataRecord{
					EventId: make([]byte, 16), TimestampUnixNano: 1, Attributes: attributes,
				})
			}
			raw, err := proto.Marshal(req)
			require.NoError(t, err)
			require.NoError(t, rows.AppendBatch(raw, uint64(1+len(want)-200)))
			// A batch with attributes of its own that ends in the midst of a record.
			req.Records[0].Attributes = map[string]string{"lost": fmt.Sprint(round, b)}
			raw, err = proto.Marshal(req)
			require.NoError(t, err)
			require.Error(t, rows.AppendBatch(raw[:len(raw)-3], 1))
		}
		require.Equal(t, len(want), rows.Len())
		for i, attributes := range want {
			require.Equal(t, attributesJSON(attributes), string(rows.Attributes(i)), "record %d", i)
		}
	}
}

func TestAttributesInAnyOrderAreWrittenOnce(t *testing.T) {
	var rows Rows
	for i := range 100 {
		// Go's maps, and so the messages, have a random order.
		raw, err := proto.Marshal(&storagepb.WriteBatchRequest{EndpointId: "e", Records: []*storagepb.DataRecord{{
			EventId: make([]byte, 16), TimestampUnixNano: 1, Attributes: map[string]string{"host": "a", "region": "eu", "zone": "1"},
		}, {
			EventId: make([]byte, 16), TimestampUnixNano: 1, Attributes: map[string]string{"host": "b"},
		}}})
		require.NoError(t, err)
		require.NoError(t, rows.AppendBatch(raw, uint64(1+2*i)))
	}
	require.Equal(t, `{"host":"a","region":"eu","zone":"1"}{"host":"b"}`, string(rows.Attrs))
}

func attributesJSON(attributes map[string]string) string {
	if len(attributes) == 0 {
		return ""
	}
	var text []byte
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		text = appendMember(text, 0, []byte(key), []byte(attributes[key]))
	}
	return string(append(text, '}'))
}
