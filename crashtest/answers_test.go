package crashtest_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	"github.com/ingestor-project/ingestor/loadgen/verify"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// writer sends single batches of its own, one a producer, and keeps a ledger of them.
type writer struct {
	client storagepb.IngestionServiceClient
	key    string
	book   *ledger.Writer
	spec   record.Spec
	began  int64 // Unix ms
}

const writerRecords = 3

func (w *writer) batch(producer uint16) record.Batch {
	return record.Batch{Producer: producer, Sequence: 1, UnixMilli: w.began, Records: writerRecords}
}

// write sends a producer's batch. An error is the gRPC status, beside the code in its details.
func (w *writer) write(ctx context.Context, producer uint16) (*storagepb.Ack, storagepb.ErrorCode, error) {
	id := record.ProducerID([16]byte{1}, producer)
	request := &storagepb.WriteBatchRequest{EndpointId: "orders", ProducerId: id[:], ProducerEpoch: 1, Sequence: 1}
	for i := range uint32(writerRecords) {
		var r record.Record
		w.spec.Fill(&r, w.batch(producer), i)
		request.Records = append(request.Records, &storagepb.DataRecord{
			EventId: r.ID[:], TimestampUnixNano: r.TimestampUnixNano, Version: r.Version, Payload: r.Payload,
		})
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+w.key)
	response, err := w.client.WriteBatch(ctx, request)
	if err == nil {
		return response.GetAck(), 0, nil
	}
	for _, detail := range status.Convert(err).Details() {
		if e, ok := detail.(*storagepb.BatchError); ok {
			return nil, e.GetCode(), err
		}
	}
	return nil, 0, err
}

// TestWaitersOfAFailedSyncLearnThatTheOutcomeIsUnknown: the batch whose group could not be synced may be stored or not, and its sender is told so;
// nothing that comes later is acked; the server ends. What its senders then send again is stored once.
func TestWaitersOfAFailedSyncLearnThatTheOutcomeIsUnknown(t *testing.T) {
	requireFuse(t)
	run := crashlevel.Start(t, "answers after a failed sync (FUSE)", "batches", packagePath)
	c, power := onPower(t, rngOf(run, 0), nil, "")
	address, list := c.Target()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	w := &writer{client: storagepb.NewIngestionServiceClient(conn), key: list[0].APIKey, spec: record.Spec{}.WithDefaults(), began: time.Now().UnixMilli()}
	path := filepath.Join(t.TempDir(), "ledger")
	w.book, err = ledger.Create(path, ledger.Header{Kind: ledger.Records, Spec: w.spec, Tenants: []string{list[0].ID}, Endpoints: []string{"orders"}})
	require.NoError(t, err)
	const producers = 12
	for producer := range uint16(producers) {
		require.NoError(t, w.book.Sent(ledger.Sent{Batch: w.batch(producer), Epoch: 1}))
	}
	acked := func(producer uint16, ack *storagepb.Ack) {
		require.NoError(t, w.book.Acked(ledger.Acked{
			Producer: producer, Epoch: 1, Sequence: 1, FirstLSN: ack.GetFirstLsn(), Records: ack.GetRecordCount(), Level: byte(ack.GetLevel()),
		}))
	}
	ack, _, err := w.write(ctx, 0)
	require.NoError(t, err)
	acked(0, ack)

	failing := power.FailLog(500 * time.Millisecond)
	answers := make([]storagepb.ErrorCode, producers)
	errs := make([]error, producers)
	var waiting sync.WaitGroup
	send := func(producer uint16) {
		waiting.Go(func() { _, answers[producer], errs[producer] = w.write(ctx, producer) })
	}
	send(1)
	<-failing.Hit()
	for producer := uint16(2); producer < producers; producer++ {
		send(producer)
	}
	waiting.Wait()
	require.Equal(t, storagepb.ErrorCode_ERROR_CODE_OUTCOME_UNKNOWN, answers[1], "%v", errs[1])
	for producer := 2; producer < producers; producer++ {
		require.Error(t, errs[producer], "nothing is acked after a sync has failed")
		unknown := answers[producer] == storagepb.ErrorCode_ERROR_CODE_OUTCOME_UNKNOWN
		require.True(t, unknown || status.Code(errs[producer]) == codes.Unavailable, "%v", errs[producer])
	}
	end, err := c.AwaitEnd(ctx)
	require.NoError(t, err)
	require.Equal(t, 4, end.Code)
	_, _, err = w.write(ctx, 1)
	require.Equal(t, codes.Unavailable, status.Code(err))

	require.NoError(t, power.CutNow(c))
	_, err = c.JudgeRemains(ctx)
	require.NoError(t, err)
	require.NoError(t, c.Restart(ctx))
	for producer := uint16(1); producer < producers; producer++ {
		require.Eventually(t, func() bool {
			if ack, _, err = w.write(ctx, producer); err != nil {
				require.Equal(t, codes.Unavailable, status.Code(err)) // not connected again yet
			}
			return err == nil
		}, time.Minute, 50*time.Millisecond)
		acked(producer, ack)
	}
	require.NoError(t, c.Drain(ctx))
	require.NoError(t, w.book.Close())
	report, err := verify.Parquet(ctx, c.DataDir(), path)
	require.NoError(t, err)
	require.True(t, report.OK(), "%s\n%+v", report, report.Examples)
	require.Equal(t, uint64(producers*writerRecords), report.Rows)
	run.Explored(producers)
}
