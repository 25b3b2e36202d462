package timescale

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

// recordBatches lists the batches of a generation in log order.
func recordBatches(t testing.TB, g *memtable.Generation) []RecordBatch {
	t.Helper()
	s := NewRecordSink(nil, walID)
	require.NoError(t, s.locate(g, g.First-1))
	var all []RecordBatch
	for _, b := range s.batches {
		all = append(all, b.RecordBatch)
	}
	return all
}

func newRecordSet(batches []RecordBatch) *recordSet {
	set := &recordSet{repository: NewRecordRepository(walID), batches: batches, starts: []int{0}}
	for i := range batches {
		set.starts = append(set.starts, set.starts[i]+batches[i].Records)
	}
	return set
}

func TestCopyStreamOfOneMetric(t *testing.T) {
	var s copyStream
	s.reset(&metricSource{metrics: []Metric{{
		Tenant: "t", Service: "s", Instance: "", Name: "n", TimeUnixNano: 1_500, Type: Counter, Unit: "u", Value: 1,
		Labels: []byte(`{"a":"b"}`),
	}}})
	got, err := io.ReadAll(&s)
	require.NoError(t, err)
	require.Equal(t, ""+
		"5047434f50590aff0d0a00"+"00000000"+"00000000"+ // signature, flags, extension
		"000a"+ // fields
		"00000008"+"fffca2fec4c82001"+ // ts: 1 µs after 1970, counted from 2000
		"00000008"+"00000000000005dc"+ // ts_unix_nano
		"00000001"+"74"+"00000001"+"73"+"00000000"+"00000001"+"6e"+ // tenant_id, service, instance, name
		"00000002"+"0002"+ // type
		"00000001"+"75"+ // unit
		"00000008"+"3ff0000000000000"+ // value
		"0000000a"+"01"+"7b2261223a2262227d"+ // labels
		"ffff", hex.EncodeToString(got))
}

func TestTimesBefore1970RoundDown(t *testing.T) {
	for unixNano, want := range map[int64]int64{0: 0, 999: 0, 1000: 1, -1: -1, -1000: -1, -1001: -2} {
		require.Equal(t, want, floorMicros(unixNano), unixNano)
	}
}

func TestCopyStreamIsTheSameForEveryReader(t *testing.T) {
	story := newStory(t)
	set := newRecordSet(recordBatches(t, story.generation(t, 200)))
	read := func(reader func(io.Reader) io.Reader) []byte {
		stream := &set.repository.stream
		stream.reset(&recordSource{set: set, end: len(story.rows)})
		all, err := io.ReadAll(reader(stream))
		require.NoError(t, err)
		return all
	}
	want := read(func(r io.Reader) io.Reader { return r })
	require.Greater(t, len(want), 4*fillBytes)
	require.True(t, bytes.Equal(want, read(iotest.OneByteReader)))
	require.True(t, bytes.Equal(want, read(iotest.HalfReader)))
}

type failingSource struct{ rows int }

var errSource = errors.New("no more")

func (s *failingSource) appendRow(dst []byte) ([]byte, error) {
	if s.rows == 0 {
		return dst, errSource
	}
	s.rows--
	return append(dst, "row"...), nil
}

func TestCopyStreamPassesTheSourcesErrorOn(t *testing.T) {
	var s copyStream
	s.reset(&failingSource{rows: 3})
	got, err := io.ReadAll(&s)
	require.ErrorIs(t, err, errSource)
	require.Equal(t, copyHeader+"rowrowrow", string(got), "no trailer: the server must not take it for complete")
}

func TestCopyAllocatesNothingForARecord(t *testing.T) {
	story := newStory(t)
	set := newRecordSet(recordBatches(t, story.generation(t, 300)))
	buf := make([]byte, 64<<10)
	allocations := testing.AllocsPerRun(5, func() {
		stream := &set.repository.stream
		stream.reset(&recordSource{set: set, end: len(story.rows)})
		for {
			if _, err := stream.Read(buf); err != nil {
				return
			}
		}
	})
	require.Less(t, allocations, float64(2*len(set.batches)), "%d records in %d batches", len(story.rows), len(set.batches))
}
