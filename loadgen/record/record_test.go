package record

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestIDHoldsItsIdentity(t *testing.T) {
	for range 10_000 {
		want := Identity{
			UnixMilli: rand.Int64N(1 << 48), Producer: uint16(rand.IntN(MaxProducers)),
			Sequence: rand.Uint64N(MaxSequence + 1), Index: rand.Uint32N(MaxRecords),
		}
		id := want.ID()
		got, ok := Parse(id)
		require.True(t, ok, "%+v", want)
		require.Equal(t, want, got)

		u := uuid.UUID(id)
		require.Equal(t, uuid.Version(7), u.Version())
		require.Equal(t, uuid.RFC4122, u.Variant())
		require.Equal(t, u.String(), id.String())
	}
}

func TestIDsSortByTimeProducerSequenceIndex(t *testing.T) {
	ordered := []Identity{
		{UnixMilli: 1, Producer: 9, Sequence: 9, Index: 9},
		{UnixMilli: 2, Producer: 3, Sequence: 9, Index: 9},
		{UnixMilli: 2, Producer: 4, Sequence: 1, Index: 9},
		{UnixMilli: 2, Producer: 4, Sequence: 2, Index: 1},
		{UnixMilli: 2, Producer: 4, Sequence: 2, Index: 2},
	}
	for i := 1; i < len(ordered); i++ {
		require.Less(t, ordered[i-1].ID().String(), ordered[i].ID().String())
	}
}

func TestForeignIDsAreNotParsed(t *testing.T) {
	_, ok := Parse(ID(uuid.New()))
	require.False(t, ok)
	_, ok = Parse(ID{})
	require.False(t, ok)
}

// TestGoldenRecord fails when records change: ledgers of earlier runs could then not be judged any more.
func TestGoldenRecord(t *testing.T) {
	spec := Spec{Seed: 42, Compressibility: 0.5, Attributes: 2}.WithDefaults()
	var r Record
	spec.Fill(&r, Batch{Producer: 5, Sequence: 77, UnixMilli: 1_700_000_000_123, Records: 1000}, 999)
	require.Equal(t, "018bcfe5-687b-7001-9000-000004d003e7", r.ID.String())
	require.Equal(t, int64(1_700_000_000_123_000_999), r.TimestampUnixNano)
	require.Equal(t,
		`{"id":"0005000000004d003e7","text":"the quick brown fox jumps over the lIAYTUS<:<L:F>LVC<?BCBT>=CWY<WRWDNEGR"}`, string(r.Payload))
	require.Equal(t,
		`7 {"attr_0":"value-08","attr_1":"value-34"}`, fmt.Sprint(r.Version, " ", string(AppendAttributesJSON(nil, r.Attributes))))
}

func TestRecordsFollowTheSpec(t *testing.T) {
	for _, spec := range []Spec{
		{},
		{PayloadBytes: MinPayloadBytes},
		{Seed: 7, PayloadBytes: 300, PayloadSpreadBytes: 200, Compressibility: 0.3, Attributes: MaxAttributes},
		{PayloadBytes: 4096, Compressibility: 1},
	} {
		spec = spec.WithDefaults()
		require.NoError(t, spec.Validate())
		var r, again Record
		sizes := make(map[int]bool)
		for i := range uint32(500) {
			b := Batch{Producer: uint16(i), Sequence: uint64(i) * 31, UnixMilli: 1_700_000_000_000 + int64(i), Records: 500}
			spec.Fill(&r, b, i)
			spec.Fill(&again, b, i)
			require.Equal(t, r, again, "a record is a function of its identity")
			require.True(t, json.Valid(r.Payload), "%s", r.Payload)
			require.InDelta(t, spec.PayloadBytes, len(r.Payload), float64(spec.PayloadSpreadBytes))
			require.Len(t, r.Attributes, spec.Attributes)
			require.True(t, r.Version >= 1 && r.Version <= 8)
			sizes[len(r.Payload)] = true
			var body struct{ ID string }
			require.NoError(t, json.Unmarshal(r.Payload, &body))
			require.Equal(t, fmt.Sprintf("%04x%010x%05x", b.Producer, b.Sequence, i), body.ID)
		}
		require.Equal(t, spec.PayloadSpreadBytes > 0, len(sizes) > 1)
	}
}

func TestSeedChangesTheContent(t *testing.T) {
	var a, b Record
	Spec{Seed: 1}.WithDefaults().Fill(&a, Batch{Sequence: 1}, 1)
	Spec{Seed: 2}.WithDefaults().Fill(&b, Batch{Sequence: 1}, 1)
	require.Equal(t, a.ID, b.ID)
	require.NotEqual(t, a.Payload, b.Payload)
}

func TestSpecValidate(t *testing.T) {
	for name, spec := range map[string]Spec{
		"payload too small":   {PayloadBytes: MinPayloadBytes - 1},
		"spread too wide":     {PayloadBytes: 100, PayloadSpreadBytes: 100},
		"compressibility":     {Compressibility: 1.5},
		"too many attributes": {Attributes: MaxAttributes + 1},
		"variants":            {Variants: -1},
	} {
		require.Error(t, spec.WithDefaults().Validate(), name)
	}
}

func TestMetricValueHoldsItsIdentity(t *testing.T) {
	for range 10_000 {
		want := Identity{
			Producer: uint16(rand.IntN(MaxMetricProducers)), Sequence: rand.Uint64N(MaxMetricSequence + 1),
			Index: rand.Uint32N(MaxMetricRecords),
		}
		got, ok := ParseMetricValue(MetricValue(want))
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	for _, v := range []float64{-1, 0.5, 1 << 53} {
		_, ok := ParseMetricValue(v)
		require.False(t, ok, "%v", v)
	}
}

func TestProducerIDsDiffer(t *testing.T) {
	seen := make(map[[16]byte]bool)
	for run := range byte(10) {
		for producer := range uint16(1000) {
			seen[ProducerID([16]byte{15: run}, producer)] = true
		}
	}
	require.Len(t, seen, 10_000)
}

func BenchmarkFill(b *testing.B) {
	spec := Spec{Seed: 1, Compressibility: 0.5}.WithDefaults()
	var r Record
	b.ReportAllocs()
	for i := range b.N {
		spec.Fill(&r, Batch{Sequence: uint64(i)}, 7)
		b.SetBytes(int64(len(r.Payload)))
	}
}
