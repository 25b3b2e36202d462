package batch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

const testTenant = "acme"

// uuid returns an event id that is unique among small i.
func uuid(i int) []byte {
	return binary.BigEndian.AppendUint64([]byte("\x01\x92\x34\x56\x78\x9a\x7b\xcd"), uint64(i))
}

// rowsRequest returns a batch of n records of about 145 bytes.
func rowsRequest(n int) *storagepb.WriteBatchRequest {
	request := &storagepb.WriteBatchRequest{BatchId: 7, EndpointId: "orders"}
	for i := range n {
		request.Records = append(request.Records, &storagepb.DataRecord{
			EventId: uuid(i), TimestampUnixNano: 1_700_000_000_000_000_000 + int64(i), Version: 3,
			Payload: make([]byte, 112),
		})
	}
	return request
}

// columnsRequest returns the content of rowsRequest(n) as columns.
func columnsRequest(n int) *storagepb.WriteBatchRequest {
	c := &storagepb.RecordColumns{}
	for _, r := range rowsRequest(n).GetRecords() {
		c.EventIds = append(c.EventIds, r.GetEventId()...)
		c.TimestampsUnixNano = append(c.TimestampsUnixNano, r.GetTimestampUnixNano())
		c.Versions = append(c.Versions, r.GetVersion())
		c.Payloads = append(c.Payloads, r.GetPayload()...)
		c.PayloadLengths = append(c.PayloadLengths, uint32(len(r.GetPayload())))
	}
	return &storagepb.WriteBatchRequest{BatchId: 7, EndpointId: "orders", Columns: c}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return raw
}

// now is the clock of these tests; records may lie an hour ahead of it.
var (
	now        = time.Unix(1_700_000_000, 0)
	testLimits = Limits{MaxRecords: 100, MaxRecordBytes: 1000, MaxTimeUnixNano: now.Add(time.Hour).UnixNano()}
)

func TestValidateAccepts(t *testing.T) {
	for name, request := range map[string]*storagepb.WriteBatchRequest{
		"rows": rowsRequest(10), "columns": columnsRequest(10),
	} {
		t.Run(name, func(t *testing.T) {
			request.AckLevel = storagepb.AckLevel_ACK_LEVEL_COMMITTED
			request.ProducerId, request.ProducerEpoch, request.Sequence = uuid(99), 4, 5
			request.ContentType = "text/csv"
			var h Header
			require.Nil(t, Validate(marshal(t, request), testTenant, testLimits, &h))
			require.Equal(t, uint64(7), h.BatchID)
			require.Equal(t, "orders", string(h.Endpoint))
			require.Equal(t, AckCommitted, h.AckLevel)
			require.True(t, h.HasProducer)
			require.Equal(t, uuid(99), h.Producer[:])
			require.Equal(t, uint32(4), h.Epoch)
			require.Equal(t, uint64(5), h.Sequence)
			require.Equal(t, "text/csv", string(h.ContentType))
			require.Equal(t, uint32(10), h.Records)
			require.Equal(t, now.UnixNano(), h.MinTimeUnixNano)
			require.Equal(t, now.UnixNano()+9, h.MaxTimeUnixNano)
		})
	}
}

func TestValidateDoesNotAllocate(t *testing.T) {
	columns := columnsRequest(50)
	columns.Columns.Attributes = []*storagepb.AttributeColumn{repeatedAttribute("host", 50, "naïve")}
	rows := rowsRequest(50)
	for _, r := range rows.GetRecords() {
		r.TenantId, r.EndpointId, r.Attributes = testTenant, "orders", map[string]string{"host": "web", "größe": "1"}
	}
	for _, request := range []*storagepb.WriteBatchRequest{rows, columns} {
		raw := marshal(t, request)
		var h Header
		require.Zero(t, testing.AllocsPerRun(10, func() {
			if refused := Validate(raw, testTenant, testLimits, &h); refused != nil {
				t.Fatal(refused)
			}
		}))
	}
}

// repeatedAttribute returns a column that holds the same value n times.
func repeatedAttribute(key string, n int, value string) *storagepb.AttributeColumn {
	a := &storagepb.AttributeColumn{Key: key, Values: []byte(strings.Repeat(value, n))}
	for range n {
		a.ValueLengths = append(a.ValueLengths, uint32(len(value)))
	}
	return a
}

func TestValidateRefuses(t *testing.T) {
	const none = refusal.NoRecord
	type request = storagepb.WriteBatchRequest
	rows, columns := rowsRequest, columnsRequest
	cases := []struct {
		name   string
		base   func(n int) *request
		damage func(m *request)
		code   refusal.Code
		record int
		field  string
	}{
		{"no endpoint", rows, func(m *request) { m.EndpointId = "" }, refusal.MissingField, none, "endpoint_id"},
		{"long endpoint", rows, func(m *request) { m.EndpointId = strings.Repeat("x", 256) }, refusal.InvalidField, none, "endpoint_id"},
		{"endpoint with NUL", rows, func(m *request) { m.EndpointId = "a\x00" }, refusal.InvalidField, none, "endpoint_id"},
		{"long content type", rows, func(m *request) { m.ContentType = strings.Repeat("x", 256) }, refusal.InvalidField, none, "content_type"},
		{"unknown ack level", rows, func(m *request) { m.AckLevel = 4 }, refusal.InvalidField, none, "ack_level"},
		{"negative ack level", rows, func(m *request) { m.AckLevel = -1 }, refusal.InvalidField, none, "ack_level"},
		{"short producer", rows, func(m *request) { m.ProducerId, m.Sequence = []byte{1}, 1 }, refusal.InvalidField, none, "producer_id"},
		{"no sequence", rows, func(m *request) { m.ProducerId = uuid(1) }, refusal.MissingField, none, "sequence"},
		{"empty", rows, func(m *request) { m.Records = nil }, refusal.EmptyBatch, none, "records"},
		{"empty columns", columns, func(m *request) { m.Columns.Reset() }, refusal.EmptyBatch, none, "columns"},
		{"both bodies", rows, func(m *request) { m.Columns = columns(1).Columns }, refusal.InvalidField, none, "columns"},
		{"too many records", rows, func(m *request) { m.Records = rows(101).Records }, refusal.TooLarge, none, "records"},
		{"too many columns", columns, func(m *request) { m.Columns = columns(101).Columns }, refusal.TooLarge, none, "columns"},

		{"wrong tenant", rows, func(m *request) { m.Records[3].TenantId = "other" }, refusal.WrongTenant, 3, "tenant_id"},
		{"wrong endpoint", rows, func(m *request) { m.Records[3].EndpointId = "other" }, refusal.InvalidField, 3, "endpoint_id"},
		{"two endpoints", rows, func(m *request) {
			m.Records[2].EndpointId, m.Records[3].EndpointId = "orders", "other"
		}, refusal.InvalidField, 3, "endpoint_id"},
		{"wrong endpoint before another fault", rows, func(m *request) {
			m.Records[3].EndpointId, m.Records[4].TimestampUnixNano = "other", 0
		}, refusal.InvalidField, 3, "endpoint_id"},
		{"no event id", rows, func(m *request) { m.Records[3].EventId = nil }, refusal.MissingField, 3, "event_id"},
		{"long event id", rows, func(m *request) { m.Records[3].EventId = append(uuid(3), 1) }, refusal.InvalidField, 3, "event_id"},
		{"no time", rows, func(m *request) { m.Records[3].TimestampUnixNano = 0 }, refusal.MissingField, 3, "timestamp_unix_nano"},
		{"before 1970", rows, func(m *request) { m.Records[3].TimestampUnixNano = -1 }, refusal.InvalidField, 3, "timestamp_unix_nano"},
		{"future", rows, func(m *request) {
			m.Records[3].TimestampUnixNano = testLimits.MaxTimeUnixNano + 1
		}, refusal.InvalidField, 3, "timestamp_unix_nano"},
		{"large record", rows, func(m *request) { m.Records[3].Payload = make([]byte, 1000) }, refusal.TooLarge, 3, "records"},
		{"empty key", rows, func(m *request) { m.Records[3].Attributes = map[string]string{"": "x"} }, refusal.InvalidField, 3, "attributes"},
		{"NUL in attribute", rows, func(m *request) {
			m.Records[3].Attributes = map[string]string{"x": "\x00"}
		}, refusal.InvalidField, 3, "attributes"},

		{"ragged ids", columns, func(m *request) { m.Columns.EventIds = m.Columns.EventIds[1:] }, refusal.InvalidField, none, "event_ids"},
		{"no ids", columns, func(m *request) { m.Columns.EventIds = nil }, refusal.MissingField, none, "event_ids"},
		{"no times", columns, func(m *request) { m.Columns.TimestampsUnixNano = nil }, refusal.MissingField, none, "timestamps_unix_nano"},
		{"few times", columns, func(m *request) {
			m.Columns.TimestampsUnixNano = m.Columns.TimestampsUnixNano[1:]
		}, refusal.InvalidField, none, "timestamps_unix_nano"},
		{"no time in columns", columns, func(m *request) {
			m.Columns.TimestampsUnixNano[3] = 0
		}, refusal.MissingField, 3, "timestamps_unix_nano"},
		{"future in columns", columns, func(m *request) {
			m.Columns.TimestampsUnixNano[3] = math.MaxInt64
		}, refusal.InvalidField, 3, "timestamps_unix_nano"},
		{"few versions", columns, func(m *request) { m.Columns.Versions = m.Columns.Versions[1:] }, refusal.InvalidField, none, "versions"},
		{"no lengths", columns, func(m *request) { m.Columns.PayloadLengths = nil }, refusal.MissingField, none, "payload_lengths"},
		{"few lengths", columns, func(m *request) {
			m.Columns.PayloadLengths = m.Columns.PayloadLengths[1:]
		}, refusal.InvalidField, none, "payload_lengths"},
		{"lengths that do not add up", columns, func(m *request) { m.Columns.PayloadLengths[3]++ }, refusal.InvalidField, none, "payload_lengths"},
		{"lengths that add up modulo 2^32", columns, func(m *request) {
			m.Columns.PayloadLengths[0] += 1 << 31
			m.Columns.PayloadLengths[1] += 1 << 31
		}, refusal.InvalidField, none, "payload_lengths"},
		{"large record in columns", columns, func(m *request) {
			m.Columns.Payloads = append(m.Columns.Payloads, make([]byte, 1000)...)
			m.Columns.PayloadLengths[9] += 1000
		}, refusal.TooLarge, 9, "columns"},
		{"record made large by attributes", columns, func(m *request) {
			a := repeatedAttribute("k", 10, "x")
			a.Values, a.ValueLengths[3] = append(a.Values, make([]byte, 900)...), 901
			for i := range a.Values {
				a.Values[i] = 'x'
			}
			m.Columns.Attributes = []*storagepb.AttributeColumn{a}
		}, refusal.TooLarge, 3, "columns"},
		{"no key", columns, func(m *request) {
			m.Columns.Attributes = []*storagepb.AttributeColumn{repeatedAttribute("", 10, "x")}
		}, refusal.InvalidField, none, "key"},
		{"long key", columns, func(m *request) {
			m.Columns.Attributes = []*storagepb.AttributeColumn{repeatedAttribute(strings.Repeat("k", 256), 10, "x")}
		}, refusal.InvalidField, none, "key"},
		{"key twice", columns, func(m *request) {
			m.Columns.Attributes = []*storagepb.AttributeColumn{repeatedAttribute("k", 10, "x"), repeatedAttribute("k", 10, "y")}
		}, refusal.InvalidField, none, "key"},
		{"few values", columns, func(m *request) {
			m.Columns.Attributes = []*storagepb.AttributeColumn{repeatedAttribute("k", 9, "x")}
		}, refusal.InvalidField, none, "value_lengths"},
		{"values that do not add up", columns, func(m *request) {
			a := repeatedAttribute("k", 10, "x")
			a.ValueLengths[3]++
			m.Columns.Attributes = []*storagepb.AttributeColumn{a}
		}, refusal.InvalidField, none, "value_lengths"},
		{"value not UTF-8 by itself", columns, func(m *request) {
			a := repeatedAttribute("k", 10, "é") // valid as a whole, cut in the middle of a character
			a.ValueLengths[3], a.ValueLengths[4] = 1, 3
			m.Columns.Attributes = []*storagepb.AttributeColumn{a}
		}, refusal.InvalidField, 3, "values"},
		{"too many attributes", columns, func(m *request) {
			for i := range MaxAttributeColumns + 1 {
				m.Columns.Attributes = append(m.Columns.Attributes, repeatedAttribute(fmt.Sprint(i), 10, "x"))
			}
		}, refusal.TooLarge, none, "attributes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := c.base(10)
			c.damage(m)
			var h Header
			refused := Validate(marshal(t, m), testTenant, testLimits, &h)
			require.NotNil(t, refused, "accepted")
			require.Equal(t, c.code, refused.Code, refused.Message)
			require.Equal(t, c.field, refused.Field)
			require.Equal(t, c.record, refused.RecordIndex)
			require.Equal(t, uint64(7), h.BatchID)
			if c.record == none {
				require.Nil(t, refused.EventID)
			} else if c.name != "no event id" {
				require.Equal(t, uuid(c.record), refused.EventID)
			}
		})
	}
}

// The faults here are such that no protobuf library would write.
func TestValidateRefusesOnTheWire(t *testing.T) {
	row := marshal(t, rowsRequest(1))
	inRecord := func(tail string) []byte {
		record := append(marshal(t, rowsRequest(1).GetRecords()[0]), tail...)
		return protowire.AppendBytes(protowire.AppendTag(marshal(t, &storagepb.WriteBatchRequest{
			BatchId: 7, EndpointId: "orders",
		}), 8, protowire.BytesType), record)
	}
	cases := []struct {
		name   string
		raw    []byte
		code   refusal.Code
		record int
		field  string
	}{
		{"cut off", row[:len(row)-1], refusal.Malformed, refusal.NoRecord, ""},
		{"tag cut off", append(row[:len(row):len(row)], 0x80), refusal.Malformed, refusal.NoRecord, ""},
		{"field number 0", append(row[:len(row):len(row)], 0, 0), refusal.Malformed, refusal.NoRecord, ""},
		{"group without end", append(row[:len(row):len(row)], 0x7b), refusal.Malformed, refusal.NoRecord, ""},
		{"end without group", append(row[:len(row):len(row)], 0x7c), refusal.Malformed, refusal.NoRecord, ""},
		{"reserved wire type", append(row[:len(row):len(row)], 0x7f), refusal.Malformed, refusal.NoRecord, ""},
		{"length beyond the end", append(row[:len(row):len(row)], 0x7a, 0xff, 0xff, 0xff, 0xff, 0x07), refusal.Malformed, refusal.NoRecord, ""},
		{"length of 2^64-1", append(row[:len(row):len(row)], "\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"...), refusal.Malformed, refusal.NoRecord, ""},
		{"varint of 65 bits", append(row[:len(row):len(row)], "\x78\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"...), refusal.Malformed, refusal.NoRecord, ""},
		{"endpoint not UTF-8", []byte("\x08\x07\x12\x01\xff"), refusal.InvalidField, refusal.NoRecord, "endpoint_id"},
		{"endpoint not UTF-8, id behind it", []byte("\x12\x01\xff\x08\x07"), refusal.InvalidField, refusal.NoRecord, "endpoint_id"},
		{"content type not UTF-8", []byte("\x08\x07\x3a\x01\xff"), refusal.InvalidField, refusal.NoRecord, "content_type"},
		{"record cut off", inRecord("\x32\x05x"), refusal.Malformed, 0, ""},
		{"tenant not UTF-8", inRecord("\x12\x01\xff"), refusal.InvalidField, 0, "tenant_id"},
		{"record's endpoint not UTF-8", inRecord("\x1a\x01\xff"), refusal.InvalidField, 0, "endpoint_id"},
		{"key not UTF-8", inRecord("\x3a\x03\x0a\x01\xff"), refusal.InvalidField, 0, "attributes"},
		{"value not UTF-8", inRecord("\x3a\x06\x0a\x01k\x12\x01\xff"), refusal.InvalidField, 0, "attributes"},
		{"attribute without key", inRecord("\x3a\x03\x12\x01v"), refusal.InvalidField, 0, "attributes"},
		{"attribute cut off", inRecord("\x3a\x03\x0a\x05k"), refusal.Malformed, 0, ""},
		{"columns cut off", []byte("\x08\x07\x12\x01o\x4a\x02\x0a\x05"), refusal.Malformed, refusal.NoRecord, "columns"},
		{"ragged packed array", []byte("\x08\x07\x12\x01o\x4a\x03\x12\x01x"), refusal.Malformed, refusal.NoRecord, "timestamps_unix_nano"},
		{"array in pieces", []byte("\x08\x07\x12\x01o\x4a\x0a\x1d\x01\x00\x00\x00\x1d\x01\x00\x00\x00"), refusal.Malformed, refusal.NoRecord, "versions"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var h Header
			refused := Validate(c.raw, testTenant, testLimits, &h)
			require.NotNil(t, refused, "accepted")
			require.Equal(t, c.code, refused.Code, refused.Message)
			require.Equal(t, c.field, refused.Field)
			require.Equal(t, c.record, refused.RecordIndex)
			require.Equal(t, uint64(7), h.BatchID)
			if c.record == 0 {
				require.Equal(t, uuid(0), refused.EventID)
			}
		})
	}
}

func TestValidateBoundsWhatAttributesGrowTo(t *testing.T) {
	// 5 bytes a record on the wire, 256 a record when written out.
	const n = 300_000
	m := columnsRequest(n)
	m.Columns.Attributes = []*storagepb.AttributeColumn{repeatedAttribute(strings.Repeat("k", MaxKeyBytes), n, "x")}
	var h Header
	refused := Validate(marshal(t, m), testTenant, Limits{}, &h)
	require.NotNil(t, refused)
	require.Equal(t, refusal.TooLarge, refused.Code)
	require.Equal(t, "attributes", refused.Field)
}

func TestGroupsAreSkippedToProtobufsDepth(t *testing.T) {
	for _, depth := range []int{1, 10_000, 10_001, 10_002, 10_003} {
		nested := append(bytes.Repeat([]byte{0x7b}, depth), bytes.Repeat([]byte{0x7c}, depth)...)
		raw := append(marshal(t, rowsRequest(1)), nested...)
		var h Header
		refused := Validate(raw, testTenant, testLimits, &h)
		require.Equal(t, proto.Unmarshal(raw, new(storagepb.WriteBatchRequest)) == nil, refused == nil, "depth %d", depth)
	}
}

// TestLongLengthsOfAttributes has keys whose length takes two bytes, the second of which must not be taken for text.
func TestLongLengthsOfAttributes(t *testing.T) {
	for _, n := range []int{126, 127, 128, 129, 133, 255, 256, 400} {
		m := rowsRequest(1)
		m.Records[0].Attributes = map[string]string{strings.Repeat("\x12", n): "v", "k": strings.Repeat("v", n)}
		checkEquivalence(t, marshal(t, m))
	}
}

func TestPeekBatchID(t *testing.T) {
	raw := marshal(t, rowsRequest(10))
	require.Equal(t, uint64(7), PeekBatchID(raw[:64]))
	require.Zero(t, PeekBatchID(nil))
}
