package ingestion

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	ingest "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func metadataContext(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, anonymous, "yes")
}

func refuseWith(err error) func(*ingest.Submission) error {
	return func(*ingest.Submission) error { return err }
}

func TestUnaryWrite(t *testing.T) {
	var seen ingest.Submission
	submitter := &fakeSubmitter{refuse: func(s *ingest.Submission) error {
		seen = *s
		seen.Endpoint = append([]byte(nil), s.Endpoint...)
		return nil
	}}
	s := startServer(t, testConfig(), submitter)
	m := request(9, 3)
	m.ProducerId, m.ProducerEpoch, m.Sequence = uuid(5), 6, 7
	before := time.Now()
	response, err := s.client.WriteBatch(deadline(t), m)
	require.NoError(t, err)
	require.True(t, proto.Equal(&storagepb.WriteBatchResponse{
		BatchId: 9,
		Outcome: &storagepb.WriteBatchResponse_Ack{Ack: &storagepb.Ack{
			Level: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, FirstLsn: 1, LastLsn: 3, RecordCount: 3,
		}},
	}, response), "%v", response)

	require.Equal(t, marshal(t, m), submitter.raws[0], "the bytes as sent")
	require.Equal(t, "acme", seen.Tenant)
	require.Equal(t, "orders", string(seen.Endpoint))
	require.Equal(t, uint32(3), seen.Records)
	require.Equal(t, m.GetRecords()[0].GetTimestampUnixNano(), seen.MinTimeUnixNano)
	require.Equal(t, m.GetRecords()[2].GetTimestampUnixNano(), seen.MaxTimeUnixNano)
	require.True(t, seen.HasProducer)
	require.Equal(t, uuid(5), seen.Producer[:])
	require.Equal(t, uint32(6), seen.Epoch)
	require.Equal(t, uint64(7), seen.Sequence)
	require.Equal(t, ingest.WALSynced, seen.Level)
	require.False(t, seen.Block)
	require.False(t, seen.ReceivedAt.Before(before))
	report, err := s.stages.Report()
	require.NoError(t, err)
	require.EqualValues(t, 1, report["decode"].Count)
}

func TestUnaryWriteAtEveryAckLevel(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	for _, level := range []storagepb.AckLevel{1, 2, 3} {
		m := columnsRequest(1, 2)
		m.AckLevel = level
		response, err := s.client.WriteBatch(deadline(t), m)
		require.NoError(t, err)
		require.Equal(t, level, response.GetAck().GetLevel())
	}
}

func TestUnaryRefusalsOfTheService(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{held: make(chan *ingest.Submission, 1)})
	// At once.
	s.submitter.refuse = refuseWith(refusal.New(refusal.Unsupported, "ack_level", "no sink"))
	_, err := s.client.WriteBatch(deadline(t), request(1, 1))
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.Equal(t, "ack_level", detail(t, err).GetField())
	// Later.
	s.submitter.refuse = func(submission *ingest.Submission) error {
		submission.Err = refusal.New(refusal.OutcomeUnknown, "", "the log failed")
		return nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.client.WriteBatch(deadline(t), request(1, 1))
		done <- err
	}()
	s.submitter.complete(<-s.submitter.held)
	err = <-done
	require.Equal(t, codes.Unknown, status.Code(err))
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_OUTCOME_UNKNOWN, detail(t, err).GetCode())
}

func TestUnaryIsRefusedAtTheMemoryBudget(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	all, ok := s.buffers.TryGet(testBudgetBytes)
	require.True(t, ok)
	_, err := s.client.WriteBatch(deadline(t), request(1, 1))
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_OVERLOADED, detail(t, err).GetCode())
	require.Equal(t, uint32(100), detail(t, err).GetRetryDelayMs())
	retry := status.Convert(err).Details()[1].(*errdetails.RetryInfo)
	require.Equal(t, 100*time.Millisecond, retry.GetRetryDelay().AsDuration())
	all.Release()
	_, err = s.client.WriteBatch(deadline(t), request(1, 1))
	require.NoError(t, err)
}

func TestUnaryClientThatLeavesDoesNotUndoItsBatch(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{held: make(chan *ingest.Submission, 1)})
	ctx, cancel := context.WithCancel(deadline(t))
	done := make(chan error, 1)
	go func() {
		_, err := s.client.WriteBatch(ctx, request(1, 1))
		done <- err
	}()
	submission := <-s.submitter.held
	cancel()
	require.Equal(t, codes.Canceled, status.Code(<-done))
	s.grpc.GracefulStop() // the handler has returned
	s.submitter.complete(submission)
	require.Equal(t, 1, s.submitter.accepted())
}

func TestUnaryIsRefusedWhileDraining(t *testing.T) {
	s := startServer(t, testConfig(), &fakeSubmitter{})
	s.api.Drain()
	_, err := s.client.WriteBatch(deadline(t), request(1, 1))
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_UNAVAILABLE, detail(t, err).GetCode())
	require.Zero(t, s.submitter.accepted())
}

func TestABatchMustFitTheMemoryBudget(t *testing.T) {
	_, err := New(testConfig(), Dependencies{Buffers: slab.New(64<<10, nil)})
	require.ErrorContains(t, err, "memory budget")
}

func TestAckEncodingEqualsProtobuf(t *testing.T) {
	for _, a := range []ack{
		{},
		{batchID: 1, level: 2, firstLSN: 3, lastLSN: 4, records: 5, duplicate: true},
		{batchID: math.MaxUint64, level: 3, firstLSN: math.MaxUint64, lastLSN: math.MaxUint64, records: math.MaxUint32},
		{batchID: 300, firstLSN: 1 << 35},
	} {
		encoded := a.AppendEncoded([]byte("before"))
		require.Len(t, encoded, len("before")+a.EncodedSize())
		var got storagepb.WriteBatchResponse
		require.NoError(t, proto.Unmarshal(encoded[len("before"):], &got))
		require.True(t, proto.Equal(&storagepb.WriteBatchResponse{
			BatchId: a.batchID,
			Outcome: &storagepb.WriteBatchResponse_Ack{Ack: &storagepb.Ack{
				Level: storagepb.AckLevel(a.level), FirstLsn: a.firstLSN, LastLsn: a.lastLSN, RecordCount: a.records,
				Duplicate: a.duplicate,
			}},
		}, &got))
	}
}
