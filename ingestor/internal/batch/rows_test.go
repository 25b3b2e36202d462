package batch

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func TestRowsHoldManyBatches(t *testing.T) {
	first, second := rowsRequest(3), columnsRequest(2)
	second.ContentType = "text/csv"
	second.Columns.TimestampsUnixNano = []int64{5, 1}
	var rows Rows
	require.NoError(t, rows.AppendBatch(marshal(t, first), 10))
	require.NoError(t, rows.AppendBatch(marshal(t, second), 20))
	require.NoError(t, rows.AppendBatch(marshal(t, second), 22))
	require.Equal(t, 7, rows.Len())
	require.Equal(t, DefaultContentType, rows.ContentType(0))
	require.Equal(t, "text/csv", rows.ContentType(3))

	rows.SortByTime(0)
	var lsns []uint64
	for i := range rows.Len() {
		lsns = append(lsns, rows.Refs[i].LSN)
	}
	require.Equal(t, []uint64{21, 23, 20, 22, 10, 11, 12}, lsns)
	require.Equal(t, uuid(1), rows.EventID(0), "accessors follow the order")

	rows.Reset()
	require.Zero(t, rows.Len())
	require.NoError(t, rows.AppendBatch(marshal(t, first), 1))
	require.Equal(t, 3, rows.Len())
}

func TestRowsSortByTime(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	m := rowsRequest(1000)
	for _, record := range m.GetRecords() {
		record.TimestampUnixNano = 1 + r.Int64N(50)
	}
	var rows Rows
	require.NoError(t, rows.AppendBatch(marshal(t, m), 1))
	rows.SortByTime(0)
	require.True(t, slices.IsSortedFunc(rows.Refs, func(a, b Ref) int {
		if a.TimeUnixNano != b.TimeUnixNano {
			return int(a.TimeUnixNano - b.TimeUnixNano)
		}
		return int(a.LSN) - int(b.LSN)
	}))
	for i, ref := range rows.Refs {
		require.Equal(t, uuid(int(ref.LSN-1)), rows.EventID(i))
	}
}

func TestAttributesAreCanonicalJSON(t *testing.T) {
	for _, c := range []struct {
		name       string
		attributes map[string]string
		want       string
	}{
		{"none", nil, ""},
		{"sorted by bytes", map[string]string{"b": "2", "a": "1", "é": "4", "B": "0", "aa": "3"}, `{"B":"0","a":"1","aa":"3","b":"2","é":"4"}`},
		{"escapes", map[string]string{"k": "\"\\/\b\t\n\f\r\x01\x1f\x7f<&>\u2028"}, `{"k":"\"\\/\b\t\n\f\r\u0001\u001f` + "\x7f<&>\u2028" + `"}`},
		{"empty value", map[string]string{"k": ""}, `{"k":""}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := rowsRequest(1)
			m.Records[0].Attributes = c.attributes
			var rows Rows
			require.NoError(t, rows.AppendBatch(marshal(t, m), 1))
			require.Equal(t, c.want, string(rows.Attributes(0)))
		})
	}
}

func TestEqualAttributesAreStoredOnce(t *testing.T) {
	rows := Rows{}
	m := rowsRequest(4)
	for i, host := range []string{"a", "a", "b", "b"} {
		m.Records[i].Attributes = map[string]string{"host": host}
	}
	require.NoError(t, rows.AppendBatch(marshal(t, m), 1))
	require.Equal(t, `{"host":"a"}{"host":"b"}`, string(rows.Attrs))
	for i, want := range []string{"a", "a", "b", "b"} {
		require.Equal(t, `{"host":"`+want+`"}`, string(rows.Attributes(i)))
	}
}

func TestColumnAttributesMayBeAbsent(t *testing.T) {
	m := columnsRequest(3)
	m.Columns.Attributes = []*storagepb.AttributeColumn{
		{Key: "z", Values: []byte("xyz"), ValueLengths: []uint32{1, 0, 2}},
		{Key: "a", Values: []byte("1"), ValueLengths: []uint32{0, 0, 1}},
	}
	var rows Rows
	require.NoError(t, rows.AppendBatch(marshal(t, m), 1))
	require.Equal(t, `{"z":"x"}`, string(rows.Attributes(0)))
	require.Empty(t, rows.Attributes(1))
	require.Equal(t, `{"a":"1","z":"yz"}`, string(rows.Attributes(2)))
}

func TestAppendBatchAddsNothingOfAnInvalidBatch(t *testing.T) {
	var rows Rows
	require.NoError(t, rows.AppendBatch(marshal(t, rowsRequest(2)), 1))
	raw := marshal(t, rowsRequest(3))
	require.ErrorIs(t, rows.AppendBatch(raw[:len(raw)-1], 3), ErrInvalid)
	m := columnsRequest(3)
	m.Columns.PayloadLengths[1]++
	require.ErrorIs(t, rows.AppendBatch(marshal(t, m), 3), ErrInvalid)
	require.Equal(t, 2, rows.Len())
	require.Len(t, rows.Raws, 1)
	require.Len(t, rows.ContentTypes, 1)
}
