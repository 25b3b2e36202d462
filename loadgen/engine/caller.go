package engine

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// caller makes unary calls, one at a time, for one worker. It is one producer for each tenant.
type caller struct {
	run    *run
	shard  *shard
	conn   *grpc.ClientConn
	worker int
	tenant map[int]*callerTenant
}

type callerTenant struct {
	producer uint16
	sequence uint64 // of the last batch
	envelope envelope
	metadata metadata.MD
}

func newCaller(r *run, worker int, conn *grpc.ClientConn) *caller {
	return &caller{run: r, shard: r.recorder.shard(worker), conn: conn, worker: worker, tenant: make(map[int]*callerTenant)}
}

func (c *caller) producer(tenant int) *callerTenant {
	t := c.tenant[tenant]
	if t == nil {
		producer := c.run.producer(c.worker, tenant)
		t = &callerTenant{
			producer: producer, envelope: c.run.envelope(producer), metadata: c.run.credential(tenant),
		}
		c.tenant[tenant] = t
	}
	return t
}

// send makes one call and settles its outcome.
func (c *caller) send(ctx context.Context, t *ticket) error {
	p := c.producer(t.tenant)
	p.sequence++
	b := t.batch(time.Now())
	b.Producer, b.Sequence = p.producer, p.sequence
	s := sentBatch{
		Sent:   ledger.Sent{Batch: b, Epoch: c.run.config.Epoch, Tenant: uint32(c.run.config.FirstTenant + t.tenant)},
		flight: flight{phase: t.phase, records: uint64(t.records), due: t.due},
	}
	if err := c.run.book.sent(s.Sent); err != nil {
		return err
	}
	ctx = metadata.NewOutgoingContext(ctx, p.metadata)
	if c.run.config.Method == Metrics {
		return c.logMetrics(ctx, &s)
	}
	return c.writeBatch(ctx, &s, p.envelope)
}

func (c *caller) writeBatch(ctx context.Context, s *sentBatch, e envelope) error {
	e.endpoint = c.run.config.Endpoints[s.Endpoint]
	for {
		message, size := c.run.encoder.encode(&e, s.Batch)
		c.run.recorder.sent(c.shard, &s.flight, c.run.now(), size)
		var r storagepb.WriteBatchResponse
		err := c.conn.Invoke(ctx, storagepb.IngestionService_WriteBatch_FullMethodName, message, &r, grpc.WaitForReady(true))
		now := c.run.now()
		if err == nil {
			ack := r.GetAck()
			if ack.GetRecordCount() != s.Records {
				return fmt.Errorf("engine: batch %d: %d records sent, %d acked", s.Sequence, s.Records, ack.GetRecordCount())
			}
			c.run.recorder.acked(c.shard, &s.flight, now, ack.GetLevel(), ack.GetDuplicate())
			return c.run.book.acked(&s.Sent, ack.GetLevel(), ack.GetFirstLsn(), ack.GetDuplicate())
		}
		again, err := c.failed(ctx, s, err, now)
		if !again {
			return err
		}
	}
}

// failed deals with a call that ended with an error, and reports whether to call again.
func (c *caller) failed(ctx context.Context, s *sentBatch, err error, now time.Duration) (again bool, _ error) {
	c.run.recorder.broken(err)
	what, name := unsure, status.Code(err).String()
	detail := batchError(err)
	switch {
	case detail != nil:
		what, name = judge(detail.GetCode(), s.unsure), codeName(detail.GetCode())
	case final(err):
		what = refuse
		if s.unsure {
			what = forsake
		}
	}
	s.unsure = s.unsure || what == unsure
	overdue := now-s.firstSent > c.run.config.RetryFor
	switch {
	case what == refuse:
		c.run.recorder.refused(c.shard, &s.flight, name)
		return false, c.run.book.refused(&s.Sent, detail.GetCode())
	case what == retry && overdue && !s.unsure:
		c.run.recorder.refused(c.shard, &s.flight, name)
		return false, c.run.book.refused(&s.Sent, detail.GetCode())
	case what == forsake:
		c.run.recorder.unknown(c.shard, &s.flight)
		return false, c.run.book.turnedDown(&s.Sent, detail.GetCode())
	case overdue || pause(ctx, pauseAfter(s.attempts)) != nil:
		c.run.recorder.unknown(c.shard, &s.flight)
		return false, nil
	}
	return true, nil
}

// logMetrics sends one request of metrics. They have no producer sequence, so a call whose outcome is unknown is not made again.
func (c *caller) logMetrics(ctx context.Context, s *sentBatch) error {
	request := MetricsRequest(c.run.config.service(), s.Batch)
	request.AckLevel = c.run.config.AckLevel
	c.run.recorder.sent(c.shard, &s.flight, c.run.now(), 0)
	var r metricspb.LogMetricsResponse
	err := c.conn.Invoke(ctx, metricspb.MetricsService_LogMetric_FullMethodName, request, &r, grpc.WaitForReady(true))
	if err == nil {
		c.run.recorder.acked(c.shard, &s.flight, c.run.now(), r.GetLevel(), false)
		return c.run.book.acked(&s.Sent, r.GetLevel(), 0, false)
	}
	c.run.recorder.broken(err)
	detail := batchError(err)
	if detail != nil && judge(detail.GetCode(), false) != unsure || final(err) {
		name := status.Code(err).String()
		if detail != nil {
			name = codeName(detail.GetCode())
		}
		c.run.recorder.refused(c.shard, &s.flight, name)
		return c.run.book.refused(&s.Sent, detail.GetCode())
	}
	c.run.recorder.unknown(c.shard, &s.flight)
	return nil
}

// MetricsRequest makes the metrics of one batch. Each has a value that no other metric of its run has; see record.MetricValue.
func MetricsRequest(service string, b record.Batch) *metricspb.LogMetricsRequest {
	request := &metricspb.LogMetricsRequest{
		Service:  service,
		Instance: record.MetricInstance(b.Producer),
		Metrics:  make([]*metricspb.Metric, b.Records),
	}
	for i := range request.Metrics {
		m := record.MetricOf(b.Identity(uint32(i)))
		request.Metrics[i] = &metricspb.Metric{
			Name: m.Name, Value: m.Value, TimestampUnixNano: m.TimestampUnixNano, Unit: m.Unit,
			Type:   metricspb.MetricType_METRIC_TYPE_GAUGE,
			Labels: map[string]string{m.LabelKey: m.LabelValue},
		}
	}
	return request
}
