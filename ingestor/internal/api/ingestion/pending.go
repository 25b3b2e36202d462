package ingestion

import (
	"context"
	"errors"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	ingest "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
)

// pending is one batch from its receipt to its answer. It belongs to the goroutine that received it, to the submitter
// between Submit and Done, and then to the goroutine that answers.
type pending struct {
	submission ingest.Submission
	header     batch.Header
	batchID    uint64
}

// reset makes p ready for the next batch; Done is kept.
func (p *pending) reset() {
	done := p.submission.Done
	*p = pending{}
	p.submission.Done = done
}

// answer returns the outcome of a submission that is done.
func (p *pending) answer(dst *ack) *refusal.Error {
	s := &p.submission
	*dst = ack{
		batchID: p.batchID, level: s.Level, firstLSN: s.FirstLSN, lastLSN: s.LastLSN,
		records: s.AckedRecords, duplicate: s.Duplicate,
	}
	return s.Err
}

// submit takes one message all the way to the submitter. Whatever it returns, message has been freed, and p.batchID is set if
// it could be read. On nil p is the submitter's. On an error nothing was taken: a *refusal.Error is for the client, any
// other is the context's. block says whether to wait at the server's limits or to refuse.
func (a *API) submit(
	ctx context.Context, principal *auth.Principal, message *rpc.RawMessage, p *pending, block bool,
) error {
	defer message.Free()
	received := a.now()
	a.metrics.receivedBytes.Add(float64(message.Len()))
	if refused := a.refuseEarly(message, p); refused != nil {
		return refused
	}
	p.submission.Tenant, p.submission.Block = principal.Tenant, block
	if err := a.submitter.Admit(ctx, &p.submission, message.Len()); err != nil {
		p.batchID = peekBatchID(message)
		return err
	}
	buffer, err := a.buffer(ctx, message, p, block)
	if err != nil {
		a.submitter.Withdraw(&p.submission)
		return err
	}
	copied := a.now()
	raw := buffer.Bytes()
	message.CopyTo(raw)
	message.Free()
	limits := batch.Limits{
		MaxRecords:      a.config.MaxBatchRecords,
		MaxRecordBytes:  a.config.MaxRecordBytes,
		MaxTimeUnixNano: received.Add(a.config.MaxFuture).UnixNano(),
	}
	refused := batch.Validate(raw, principal.Tenant, limits, &p.header)
	p.batchID = p.header.BatchID
	if refused == nil && !principal.MayWrite(string(p.header.Endpoint)) {
		refused = refusal.New(refusal.ForbiddenEndpoint, "endpoint_id",
			"the credential may not write to endpoint %q", p.header.Endpoint)
	}
	if refused != nil {
		buffer.Release()
		a.submitter.Withdraw(&p.submission)
		return refused
	}
	checked := a.now()
	a.observer.Observe(telemetry.Decode, checked.Sub(copied))

	p.fill(buffer, raw)
	p.submission.ReceivedAt, p.submission.CheckedAt = received, checked
	if err := a.submitter.Submit(&p.submission); err != nil {
		buffer.Release()
		return err
	}
	return nil
}

// fill describes the batch to the submitter.
func (p *pending) fill(buffer *slab.Buf, raw []byte) {
	s, h := &p.submission, &p.header
	s.Endpoint = h.Endpoint
	s.Buf, s.Raw = buffer, raw
	s.Records, s.MinTimeUnixNano, s.MaxTimeUnixNano = h.Records, h.MinTimeUnixNano, h.MaxTimeUnixNano
	s.HasProducer, s.Producer, s.Epoch, s.Sequence = h.HasProducer, h.Producer, h.Epoch, h.Sequence
	s.Level = ingest.AckLevel(h.AckLevel)
	if h.AckLevel == batch.AckUnspecified {
		s.Level = ingest.WALSynced
	}
}

// refuseEarly refuses what need not be copied first.
func (a *API) refuseEarly(message *rpc.RawMessage, p *pending) *refusal.Error {
	size := message.Len()
	switch {
	case a.isDraining():
		p.batchID = peekBatchID(message)
		return refusal.Retry(refusal.Unavailable, a.config.RetryDelay, "the server is shutting down")
	case size > a.config.MaxBatchBytes:
		p.batchID = peekBatchID(message)
		return refusal.New(refusal.TooLarge, "", "the batch has %d bytes, the limit is %d", size, a.config.MaxBatchBytes)
	}
	return nil
}

// peekBytes is room for the fields that stand before the records, in the order in which protobuf libraries write them.
const peekBytes = 64

// peekBatchID reads the batch's ID from the beginning of a message that is not going to be copied.
func peekBatchID(message *rpc.RawMessage) uint64 {
	prefix := make([]byte, peekBytes)
	return batch.PeekBatchID(prefix[:message.CopyTo(prefix)])
}

// buffer returns a slab buffer of the message's size.
func (a *API) buffer(ctx context.Context, message *rpc.RawMessage, p *pending, block bool) (*slab.Buf, error) {
	size := message.Len()
	if !block {
		if buffer, ok := a.buffers.TryGet(size); ok {
			return buffer, nil
		}
		p.batchID = peekBatchID(message)
		return nil, refusal.Retry(refusal.Overloaded, a.config.RetryDelay, "the server is at its memory budget")
	}
	buffer, err := a.buffers.Get(ctx, size)
	if errors.Is(err, slab.ErrTooLarge) {
		p.batchID = peekBatchID(message)
		return nil, refusal.New(refusal.TooLarge, "", "the batch has %d bytes, more than the memory budget holds", size)
	}
	return buffer, err
}
