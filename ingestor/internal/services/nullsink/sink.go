package nullsink

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
)

// Sink answers batches and stores none. Safe for concurrent use.
type Sink struct {
	stages  ingestion.Stages
	lastLSN atomic.Uint64
}

// New returns a sink that gives out LSNs from 1 on. stages takes the durations of the ack stage.
func New(stages ingestion.Stages) *Sink { return &Sink{stages: stages} }

// Admit lets everything in: nothing waits here.
func (n *Sink) Admit(context.Context, *ingestion.Submission, int) error { return nil }

// Withdraw does nothing, as Admit does.
func (n *Sink) Withdraw(*ingestion.Submission) {}

// Submit releases the batch's buffer and calls s.Done before it returns. It never fails. There is no dedupe: a batch that is sent again
// gets new LSNs.
func (n *Sink) Submit(s *ingestion.Submission) error {
	s.Buf.Release()
	s.Buf, s.Raw, s.Endpoint = nil, nil, nil
	s.LastLSN = n.lastLSN.Add(uint64(s.Records))
	s.FirstLSN, s.AckedRecords = s.LastLSN-uint64(s.Records)+1, s.Records
	s.Level, s.Err, s.Duplicate = ingestion.Buffered, nil, false
	n.stages.Observe(telemetry.Ack, time.Since(s.ReceivedAt))
	s.Done(s)
	return nil
}
