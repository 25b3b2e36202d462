package ingestion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// badInput is a batch that must be refused, as the bytes on the wire.
type badInput struct {
	name   string
	raw    []byte
	status codes.Code
	code   storagepb.ErrorCode
	record int // -1: none is to blame
	event  []byte
	field  string
}

const badBatchID = 77

func badInputs(t *testing.T) []badInput {
	rows := func(damage func(m *storagepb.WriteBatchRequest)) []byte {
		m := request(badBatchID, 5)
		damage(m)
		return marshal(t, m)
	}
	columns := func(damage func(c *storagepb.RecordColumns)) []byte {
		m := columnsRequest(badBatchID, 5)
		damage(m.GetColumns())
		return marshal(t, m)
	}
	// appended returns a batch whose record 0 ends in bytes that no library would write.
	appended := func(tail string) []byte {
		m := request(badBatchID, 1)
		record := append(marshal(t, m.GetRecords()[0]), tail...)
		m.Records = nil
		return protowire.AppendBytes(protowire.AppendTag(marshal(t, m), 8, protowire.BytesType), record)
	}
	good := marshal(t, request(badBatchID, 5))
	const (
		invalid = codes.InvalidArgument
		denied  = codes.PermissionDenied
	)
	type req = storagepb.WriteBatchRequest
	return []badInput{
		{"wrong tenant", rows(func(m *req) { m.Records[3].TenantId = "other" }),
			denied, storagepb.ErrorCode_ERROR_CODE_WRONG_TENANT, 3, uuid(3), "tenant_id"},
		{"endpoint not permitted", rows(func(m *req) { m.EndpointId = "secrets" }),
			denied, storagepb.ErrorCode_ERROR_CODE_FORBIDDEN_ENDPOINT, -1, nil, "endpoint_id"},
		{"record of another endpoint", rows(func(m *req) { m.Records[2].EndpointId = "sensor-1" }),
			invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, 2, uuid(2), "endpoint_id"},
		{"missing endpoint", rows(func(m *req) { m.EndpointId = "" }),
			invalid, storagepb.ErrorCode_ERROR_CODE_MISSING_FIELD, -1, nil, "endpoint_id"},
		{"missing event id", rows(func(m *req) { m.Records[1].EventId = nil }),
			invalid, storagepb.ErrorCode_ERROR_CODE_MISSING_FIELD, 1, nil, "event_id"},
		{"short event id", rows(func(m *req) { m.Records[1].EventId = []byte{1, 2} }),
			invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, 1, []byte{1, 2}, "event_id"},
		{"long event id", rows(func(m *req) { m.Records[1].EventId = append(uuid(1), 9) }),
			invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, 1, uuid(1), "event_id"},
		{"missing timestamp", rows(func(m *req) { m.Records[4].TimestampUnixNano = 0 }),
			invalid, storagepb.ErrorCode_ERROR_CODE_MISSING_FIELD, 4, uuid(4), "timestamp_unix_nano"},
		{"missing sequence", rows(func(m *req) { m.ProducerId = uuid(0) }),
			invalid, storagepb.ErrorCode_ERROR_CODE_MISSING_FIELD, -1, nil, "sequence"},
		{"missing timestamps column", columns(func(c *storagepb.RecordColumns) { c.TimestampsUnixNano = nil }),
			invalid, storagepb.ErrorCode_ERROR_CODE_MISSING_FIELD, -1, nil, "timestamps_unix_nano"},
		{"timestamp before 1970", rows(func(m *req) { m.Records[4].TimestampUnixNano = -5 }),
			invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, 4, uuid(4), "timestamp_unix_nano"},
		{"timestamp too far ahead", rows(func(m *req) {
			m.Records[4].TimestampUnixNano = time.Now().Add(2 * time.Hour).UnixNano()
		}), invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, 4, uuid(4), "timestamp_unix_nano"},
		{"timestamp of a column out of range", columns(func(c *storagepb.RecordColumns) { c.TimestampsUnixNano[2] = math.MaxInt64 }),
			invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, 2, uuid(2), "timestamps_unix_nano"},
		{"tenant not UTF-8", appended("\x12\x01\xff"),
			invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, 0, uuid(0), "tenant_id"},
		{"attribute not UTF-8", appended("\x3a\x06\x0a\x01k\x12\x01\xff"),
			invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, 0, uuid(0), "attributes"},
		{"endpoint not UTF-8", []byte("\x08\x4d\x12\x01\xff"),
			invalid, storagepb.ErrorCode_ERROR_CODE_INVALID_FIELD, -1, nil, "endpoint_id"},
		{"oversized record", rows(func(m *req) { m.Records[2].Payload = make([]byte, 5<<10) }),
			invalid, storagepb.ErrorCode_ERROR_CODE_TOO_LARGE, 2, uuid(2), "records"},
		{"oversized batch", rows(func(m *req) {
			for _, r := range m.GetRecords() {
				r.Payload = make([]byte, 40<<10)
			}
		}), invalid, storagepb.ErrorCode_ERROR_CODE_TOO_LARGE, -1, nil, ""},
		{"too many records", marshal(t, request(badBatchID, 101)),
			invalid, storagepb.ErrorCode_ERROR_CODE_TOO_LARGE, -1, nil, "records"},
		{"empty batch", marshal(t, request(badBatchID, 0)),
			invalid, storagepb.ErrorCode_ERROR_CODE_EMPTY_BATCH, -1, nil, "records"},
		{"malformed batch", append(good[:len(good):len(good)], 0xff),
			invalid, storagepb.ErrorCode_ERROR_CODE_MALFORMED, -1, nil, ""},
		{"malformed record", appended("\x32\x7f"),
			invalid, storagepb.ErrorCode_ERROR_CODE_MALFORMED, 0, uuid(0), ""},
		{"batch cut off", good[:len(good)-1],
			invalid, storagepb.ErrorCode_ERROR_CODE_MALFORMED, -1, nil, ""},
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	require.NoError(t, err)
	return raw
}

// bytesCodec lets a client send bytes that are not a message, and receive messages as usual.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	return proto.Unmarshal(data.Materialize(), v.(proto.Message))
}

func requireBatchError(t *testing.T, want badInput, got *storagepb.BatchError) {
	t.Helper()
	require.Equal(t, want.code, got.GetCode(), got.GetMessage())
	require.Equal(t, want.field, got.GetField())
	require.Equal(t, string(want.event), string(got.GetEventId()))
	require.NotEmpty(t, got.GetMessage())
	if want.record < 0 {
		require.Nil(t, got.RecordIndex)
	} else {
		require.NotNil(t, got.RecordIndex)
		require.Equal(t, want.record, int(got.GetRecordIndex()))
	}
}

// detail returns the BatchError of a status.
func detail(t *testing.T, err error) *storagepb.BatchError {
	t.Helper()
	details := status.Convert(err).Details()
	require.NotEmpty(t, details, "%v", err)
	return details[0].(*storagepb.BatchError)
}

func TestUnaryRefusals(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	for _, c := range badInputs(t) {
		t.Run(c.name, func(t *testing.T) {
			var response storagepb.WriteBatchResponse
			err := s.conn.Invoke(deadline(t), storagepb.IngestionService_WriteBatch_FullMethodName, c.raw, &response,
				grpc.ForceCodecV2(bytesCodec{}))
			require.Equal(t, c.status, status.Code(err), "%v", err)
			requireBatchError(t, c, detail(t, err))
		})
	}
	require.Zero(t, s.submitter.accepted())
	require.Equal(t, float64(len(badInputs(t))), refusals(t, s))
}

// refusals returns the number of refused batches that the metrics show.
func refusals(t *testing.T, s *server) (sum float64) {
	families, err := s.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "ingestor_api_batches_refused_total" {
			for _, metric := range family.GetMetric() {
				sum += metric.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// A batch that is not admitted is refused by its ID before it takes memory, and the next one is taken.
func TestBatchesThatAreNotAdmitted(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	full := refusal.Retry(refusal.Overloaded, 70*time.Millisecond, "the tenant's share is in use")
	s.submitter.full.Store(full)
	_, err := s.client.WriteBatch(deadline(t), request(7, 1))
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_OVERLOADED, detail(t, err).GetCode())
	require.EqualValues(t, 70, detail(t, err).GetRetryDelayMs())
	require.Zero(t, s.buffers.UsedBytes())
	_, err = s.client.WriteBatch(deadline(t), request(7, 1))
	require.NoError(t, err)

	s.submitter.full.Store(full)
	stream := openStream(t, deadline(t), s)
	require.NoError(t, stream.Send(request(8, 1)))
	response, err := stream.Recv()
	require.NoError(t, err)
	require.EqualValues(t, 8, response.GetBatchId())
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_OVERLOADED, response.GetError().GetCode())
	require.NoError(t, stream.Send(request(9, 1)))
	requireAck(t, stream, 9)
	require.Equal(t, 2.0, refusals(t, s))
	require.Equal(t, 2, s.submitter.accepted())
}

func TestStreamRefusals(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	stream := rawStream(t, s)
	for i, c := range badInputs(t) {
		require.NoError(t, stream.SendMsg(c.raw))
		var response storagepb.WriteBatchResponse
		require.NoError(t, stream.RecvMsg(&response), c.name)
		require.Equal(t, uint64(badBatchID), response.GetBatchId(), c.name)
		requireBatchError(t, c, response.GetError())

		// The stream goes on.
		require.NoError(t, stream.SendMsg(marshal(t, request(uint64(i), 2))))
		response.Reset()
		require.NoError(t, stream.RecvMsg(&response), c.name)
		require.Equal(t, uint64(i), response.GetBatchId())
		require.Equal(t, uint32(2), response.GetAck().GetRecordCount())
	}
	require.NoError(t, stream.CloseSend())
	require.ErrorIs(t, stream.RecvMsg(new(storagepb.WriteBatchResponse)), io.EOF)
	require.Equal(t, len(badInputs(t)), s.submitter.accepted())
}

// rawStream opens a WriteStream that sends bytes.
func rawStream(t *testing.T, s *server) grpc.ClientStream {
	t.Helper()
	stream, err := s.conn.NewStream(deadline(t), &storagepb.IngestionService_ServiceDesc.Streams[0],
		storagepb.IngestionService_WriteStream_FullMethodName, grpc.ForceCodecV2(bytesCodec{}))
	require.NoError(t, err)
	return stream
}

func TestMessagesFarAboveTheLimitAreRefusedByGRPC(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	m := request(1, 1)
	m.Records[0].Payload = make([]byte, 5*testConfig().MaxBatchBytes)
	_, err := s.client.WriteBatch(deadline(t), m)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Empty(t, status.Convert(err).Details())

	// It ends a stream.
	stream, err := s.client.WriteStream(deadline(t))
	require.NoError(t, err)
	require.NoError(t, stream.Send(request(1, 3)))
	requireAck(t, stream, 1)
	require.NoError(t, stream.Send(m))
	_, err = stream.Recv()
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
}

func TestCallsWithoutPrincipalAreRefused(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	ctx := metadataContext(deadline(t))
	_, err := s.client.WriteBatch(ctx, request(1, 1))
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	stream, err := s.client.WriteStream(ctx)
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	require.Zero(t, s.submitter.accepted())
}

func TestConfigIsValidated(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for i, damage := range []func(*Config){
		func(c *Config) { c.MaxBatchBytes = 0 },
		func(c *Config) { c.MaxBatchBytes = math.MaxInt32 },
		func(c *Config) { c.MaxBatchRecords = 0 },
		func(c *Config) { c.MaxRecordBytes = 0 },
		func(c *Config) { c.MaxFuture = -1 },
		func(c *Config) { c.Window = 0 },
		func(c *Config) { c.RetryDelay = 0 },
	} {
		c := DefaultConfig()
		damage(&c)
		require.Error(t, c.Validate(), fmt.Sprintf("case %d", i))
	}
}

var errNotRefused = errors.New("an error that is no refusal")

func TestErrorsOfTheSubmitterThatAreNoRefusals(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{refuse: refuseWith(errNotRefused)})
	_, err := s.client.WriteBatch(deadline(t), request(1, 1))
	require.Equal(t, codes.Internal, status.Code(err))
	s.submitter.refuse = refuseWith(context.Canceled)
	_, err = s.client.WriteBatch(deadline(t), request(1, 1))
	require.Equal(t, codes.Canceled, status.Code(err))
}
