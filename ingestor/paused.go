package ingestor

import (
	ingestionapi "github.com/ingestor-project/ingestor/ingestor/internal/api/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
)

// pausedSubmitter takes what need not wait for the sinks: while they are paused they commit nothing.
type pausedSubmitter struct{ ingestionapi.Submitter }

// Submit refuses batches at level COMMITTED and hands on the others.
func (p pausedSubmitter) Submit(s *ingestion.Submission) error {
	if s.Level == ingestion.Committed {
		p.Withdraw(s)
		return refusal.New(refusal.Unsupported, "ack_level",
			"the server has been started with processor.paused: nothing is committed to the sinks until it is started without")
	}
	return p.Submitter.Submit(s)
}
