package batch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// The record size limit stays out of this comparison: it concerns bytes on the wire, which a message no longer shows.
var equivalenceLimits = Limits{MaxRecords: 1000, MaxTimeUnixNano: 1_800_000_000_000_000_000}

// plainRecord is one record as protobuf-go reads it, whatever the layout.
type plainRecord struct {
	event      []byte
	time       int64
	version    uint32
	payload    []byte
	attributes map[string]string
}

// violation is one reason to refuse a message that protobuf-go accepts. record is refusal.NoRecord where none is to blame.
type violation struct {
	code   refusal.Code
	field  string
	record int
}

// judge is an independent reading of the rules in the proto comments: the records, or every violation.
func judge(m *storagepb.WriteBatchRequest) (records []plainRecord, violations []violation) {
	add := func(record int, code refusal.Code, field string) {
		violations = append(violations, violation{code, field, record})
	}
	batchWide := func(bad bool, code refusal.Code, field string) {
		if bad {
			add(refusal.NoRecord, code, field)
		}
	}
	batchWide(m.GetEndpointId() == "", refusal.MissingField, "endpoint_id")
	batchWide(len(m.GetEndpointId()) > 255 || strings.Contains(m.GetEndpointId(), "\x00"), refusal.InvalidField, "endpoint_id")
	batchWide(len(m.GetContentType()) > 255 || strings.Contains(m.GetContentType(), "\x00"), refusal.InvalidField, "content_type")
	batchWide(m.GetAckLevel() < 0 || m.GetAckLevel() > 3, refusal.InvalidField, "ack_level")
	if n := len(m.GetProducerId()); n > 0 {
		batchWide(n != 16, refusal.InvalidField, "producer_id")
		batchWide(m.GetSequence() == 0, refusal.MissingField, "sequence")
	}
	batchWide(len(m.GetRecords()) > 0 && m.GetColumns() != nil, refusal.InvalidField, "columns")
	batchWide(len(m.GetRecords()) > equivalenceLimits.MaxRecords, refusal.TooLarge, "records")
	batchWide(len(m.GetRecords()) == 0 && m.GetColumns() == nil, refusal.EmptyBatch, "records")
	for i, r := range m.GetRecords() {
		judgeRecord(m, i, r, add)
		records = append(records, plainRecord{
			r.GetEventId(), r.GetTimestampUnixNano(), r.GetVersion(), r.GetPayload(), r.GetAttributes(),
		})
	}
	if m.GetColumns() != nil {
		records = append(records, judgeColumns(m.GetColumns(), add)...)
	}
	return records, violations
}

type addViolation func(record int, code refusal.Code, field string)

func judgeRecord(m *storagepb.WriteBatchRequest, i int, r *storagepb.DataRecord, add addViolation) {
	switch len(r.GetEventId()) {
	case 16:
	case 0:
		add(i, refusal.MissingField, "event_id")
	default:
		add(i, refusal.InvalidField, "event_id")
	}
	judgeTime(i, r.GetTimestampUnixNano(), "timestamp_unix_nano", add)
	if r.GetTenantId() != "" && r.GetTenantId() != testTenant {
		add(i, refusal.WrongTenant, "tenant_id")
	}
	if r.GetEndpointId() != "" && r.GetEndpointId() != m.GetEndpointId() {
		add(i, refusal.InvalidField, "endpoint_id")
	}
	for key, value := range r.GetAttributes() {
		if key == "" || strings.Contains(key+value, "\x00") {
			add(i, refusal.InvalidField, "attributes")
		}
	}
}

func judgeTime(i int, t int64, field string, add addViolation) {
	switch {
	case t == 0:
		add(i, refusal.MissingField, field)
	case t < 0 || t > equivalenceLimits.MaxTimeUnixNano:
		add(i, refusal.InvalidField, field)
	}
}

func judgeColumns(c *storagepb.RecordColumns, add addViolation) []plainRecord {
	n := len(c.GetEventIds()) / 16
	count := func(field string, got int, optional bool) bool {
		switch {
		case got == n || optional && got == 0:
			return true
		case got == 0:
			add(refusal.NoRecord, refusal.MissingField, field)
		default:
			add(refusal.NoRecord, refusal.InvalidField, field)
		}
		return false
	}
	if len(c.GetEventIds())%16 != 0 {
		add(refusal.NoRecord, refusal.InvalidField, "event_ids")
		return nil
	}
	if n == 0 {
		add(refusal.NoRecord, refusal.EmptyBatch, "columns")
		add(refusal.NoRecord, refusal.MissingField, "event_ids")
		return nil
	}
	if n > equivalenceLimits.MaxRecords {
		add(refusal.NoRecord, refusal.TooLarge, "columns")
	}
	whole := count("timestamps_unix_nano", len(c.GetTimestampsUnixNano()), false)
	whole = count("versions", len(c.GetVersions()), true) && whole
	whole = count("payload_lengths", len(c.GetPayloadLengths()), false) && whole
	for i, t := range c.GetTimestampsUnixNano() {
		judgeTime(i, t, "timestamps_unix_nano", add)
	}
	payloads, ok := cut(c.GetPayloads(), c.GetPayloadLengths())
	if !ok {
		add(refusal.NoRecord, refusal.InvalidField, "payload_lengths")
	}
	attributes := judgeAttributeColumns(c, n, add)
	if !whole || !ok || attributes == nil {
		return nil
	}
	records := make([]plainRecord, n)
	for i := range records {
		records[i] = plainRecord{
			event: c.GetEventIds()[16*i : 16*i+16], time: c.GetTimestampsUnixNano()[i], payload: payloads[i], attributes: attributes[i],
		}
		if len(c.GetVersions()) > 0 {
			records[i].version = c.GetVersions()[i]
		}
	}
	return records
}

// judgeAttributeColumns returns the attributes of each of n records; nil where the columns do not fit.
func judgeAttributeColumns(c *storagepb.RecordColumns, n int, add addViolation) []map[string]string {
	attributes := make([]map[string]string, n)
	seen := map[string]bool{}
	fits := true
	for _, a := range c.GetAttributes() {
		key := a.GetKey()
		if key == "" || len(key) > 255 || strings.Contains(key, "\x00") || seen[key] {
			add(refusal.NoRecord, refusal.InvalidField, "key")
		}
		seen[key] = true
		values, ok := cut(a.GetValues(), a.GetValueLengths())
		if !ok || len(values) != n {
			add(refusal.NoRecord, refusal.InvalidField, "value_lengths")
			fits = false
			continue
		}
		for i, value := range values {
			if !utf8.Valid(value) || bytes.ContainsRune(value, 0) {
				add(i, refusal.InvalidField, "values")
			}
			if len(value) > 0 {
				if attributes[i] == nil {
					attributes[i] = map[string]string{}
				}
				attributes[i][key] = string(value)
			}
		}
	}
	if !fits {
		return nil
	}
	return attributes
}

// cut splits b into parts of the given lengths; ok is false where they do not add up.
func cut(b []byte, lengths []uint32) (parts [][]byte, ok bool) {
	for _, n := range lengths {
		if uint64(n) > uint64(len(b)) {
			return nil, false
		}
		parts, b = append(parts, b[:n]), b[n:]
	}
	return parts, len(b) == 0
}

// checkEquivalence holds Validate and Rows against protobuf-go and judge. It reports whether the batch was accepted.
func checkEquivalence(t require.TestingT, raw []byte) bool {
	var h Header
	refused := Validate(raw, testTenant, equivalenceLimits, &h)
	var m storagepb.WriteBatchRequest
	if err := proto.Unmarshal(raw, &m); err != nil {
		require.NotNil(t, refused, "accepted what protobuf-go refuses: %v", err)
		return false
	}
	require.Equal(t, m.GetBatchId(), h.BatchID, "batch_id")
	records, violations := judge(&m)
	if refused != nil {
		requireJustified(t, refused, records, violations)
		return false
	}
	require.Empty(t, violations, "accepted in spite of violations")
	requireHeader(t, &m, records, &h)
	requireRecords(t, raw, &m, records)
	var stored Header
	require.Nil(t, ReadHeader(raw, &stored))
	if h.Layout == LayoutRows {
		h.MinTimeUnixNano, h.MaxTimeUnixNano = 0, 0
	}
	require.Equal(t, h, stored)
	return true
}

// requireJustified checks that a refusal names something that is wrong, and that nothing is wrong with an earlier record.
func requireJustified(t require.TestingT, refused *refusal.Error, records []plainRecord, violations []violation) {
	inPieces := refused.Code == refusal.Malformed && strings.Contains(refused.Message, "comes in several pieces")
	// The message no longer shows an attribute that a later one of the same key has replaced.
	replaced := refused.Message == faultAttributeNUL.text
	require.True(t, inPieces || replaced || slices.Contains(violations, violation{refused.Code, refused.Field, refused.RecordIndex}),
		"refused without a reason: %+v; violations: %+v", refused, violations)
	require.True(t, utf8.ValidString(refused.Message), "message %q", refused.Message)
	if refused.RecordIndex == refusal.NoRecord {
		require.Nil(t, refused.EventID)
		return
	}
	for _, v := range violations {
		if v.record != refusal.NoRecord && mustComeFirst(v.field, refused.Field) {
			require.GreaterOrEqual(t, v.record, refused.RecordIndex, "an earlier record offends: %+v", v)
		}
	}
	if records != nil {
		event := records[refused.RecordIndex].event
		require.True(t, bytes.Equal(event[:min(16, len(event))], refused.EventID), "event id %x", refused.EventID)
	}
}

// mustComeFirst tells whether an offence against field must be found before a later one against refused. Rows are judged one
// after the other, columns one after the other, and of attribute values there are several columns. The batch's endpoint may
// come behind its records: too late to be compared.
func mustComeFirst(field, refused string) bool {
	rows := []string{"event_id", "timestamp_unix_nano", "tenant_id", "attributes"}
	return slices.Contains(rows, field) && slices.Contains(append(rows, "endpoint_id"), refused) ||
		field == "timestamps_unix_nano" && refused == field || field == "endpoint_id" && refused == field
}

func requireHeader(t require.TestingT, m *storagepb.WriteBatchRequest, records []plainRecord, h *Header) {
	require.Equal(t, m.GetEndpointId(), string(h.Endpoint))
	require.Equal(t, int32(m.GetAckLevel()), int32(h.AckLevel))
	require.Equal(t, len(m.GetProducerId()) > 0, h.HasProducer)
	if h.HasProducer {
		require.Equal(t, m.GetProducerId(), h.Producer[:])
	}
	require.Equal(t, m.GetProducerEpoch(), h.Epoch)
	require.Equal(t, m.GetSequence(), h.Sequence)
	require.Equal(t, m.GetContentType(), string(h.ContentType))
	require.Equal(t, len(records), int(h.Records))
	require.Equal(t, m.GetColumns() != nil, h.Layout == LayoutColumns)
	least, greatest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, r := range records {
		least, greatest = min(least, r.time), max(greatest, r.time)
	}
	require.Equal(t, []int64{least, greatest}, []int64{h.MinTimeUnixNano, h.MaxTimeUnixNano})
}

func requireRecords(t require.TestingT, raw []byte, m *storagepb.WriteBatchRequest, records []plainRecord) {
	const firstLSN = 1000
	var rows Rows
	require.NoError(t, rows.AppendBatch(raw, firstLSN))
	require.Equal(t, len(records), rows.Len())
	contentType := m.GetContentType()
	if contentType == "" {
		contentType = DefaultContentType
	}
	for i, r := range records {
		require.True(t, bytes.Equal(r.event, rows.EventID(i)), "event id of record %d", i)
		require.True(t, bytes.Equal(r.payload, rows.Payload(i)), "payload of record %d", i)
		require.Equal(t, r.time, rows.Refs[i].TimeUnixNano)
		require.Equal(t, r.version, rows.Refs[i].Version)
		require.Equal(t, uint64(firstLSN+i), rows.Refs[i].LSN)
		require.Equal(t, contentType, rows.ContentType(i))
		requireAttributes(t, r.attributes, rows.Attributes(i))
	}
}

// requireAttributes compares with what encoding/json writes, whose keys are sorted, too.
func requireAttributes(t require.TestingT, want map[string]string, got []byte) {
	if len(want) == 0 {
		require.Empty(t, got)
		return
	}
	var expected bytes.Buffer
	encoder := json.NewEncoder(&expected)
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(want))
	require.Equal(t, strings.TrimSpace(expected.String()), string(got))
}

func TestValidateEqualsProtobufGo(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := wireGenerator{rand.New(rand.NewPCG(seed, 0))}
	const rounds = 10_000
	accepted := 0
	for round := range rounds {
		raw := g.request()
		if round%2 == 1 {
			for range 1 + g.IntN(3) {
				raw = g.mutate(raw)
			}
		}
		if checkEquivalence(failWith{t, fmt.Sprintf("seed %d, round %d, bytes %x", seed, round, raw)}, raw) {
			accepted++
		}
	}
	// Both verdicts must be common, or the comparison would say little.
	require.Greater(t, accepted, rounds/5, "accepted")
	require.Less(t, accepted, rounds*4/5, "accepted")
}

// failWith adds what is needed to repeat a case to every failure.
type failWith struct {
	*testing.T
	context string
}

func (f failWith) Errorf(format string, args ...any) {
	f.T.Helper()
	f.T.Errorf("%s\n%s", fmt.Sprintf(format, args...), f.context)
}

func FuzzValidate(f *testing.F) {
	g := wireGenerator{rand.New(rand.NewPCG(1, 2))}
	for range 50 {
		f.Add(g.request())
	}
	f.Add(marshal(f, rowsRequest(3)))
	f.Add(marshal(f, columnsRequest(3)))
	f.Fuzz(func(t *testing.T, raw []byte) { checkEquivalence(t, raw) })
}

// FuzzAppendBatch feeds Rows bytes that Validate has not seen: it must fail in order, never crash.
func FuzzAppendBatch(f *testing.F) {
	g := wireGenerator{rand.New(rand.NewPCG(3, 4))}
	for range 50 {
		f.Add(g.request())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var rows Rows
		err := rows.AppendBatch(raw, 1)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, rows.Len())
			require.Empty(t, rows.Raws)
			return
		}
		for i := range rows.Len() {
			rows.EventID(i)
			rows.Payload(i)
			rows.Attributes(i)
			rows.ContentType(i)
		}
	})
}
