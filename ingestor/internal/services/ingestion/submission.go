package ingestion

import (
	"fmt"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
)

// AckLevel is what a positive answer means. Its values equal storage.AckLevel in proto/storage/common.proto.
type AckLevel int32

// The ack levels. A submission must name one; defaults are the api's business.
const (
	Buffered  AckLevel = 1
	WALSynced AckLevel = 2
	Committed AckLevel = 3
)

// Submission is one batch on its way into the log. Admit needs Tenant and Block, Submit all else up to Done. The caller owns
// the struct, may pool it, and must not touch it between Submit and Done.
type Submission struct {
	// Tenant comes from the credential.
	Tenant string
	// Endpoint may point into Raw.
	Endpoint []byte
	// Buf owns the memory behind Raw, the encoded WriteBatchRequest.
	Buf *slab.Buf
	Raw []byte

	Records                          uint32
	MinTimeUnixNano, MaxTimeUnixNano int64

	// HasProducer says that Producer, Epoch and Sequence are set and a resend must be recognised.
	HasProducer bool
	Producer    dedupe.ProducerID
	Epoch       uint32
	Sequence    uint64

	Level AckLevel
	// Block makes Admit wait while the tenant's share of the queue is in use (streams: flow control reaches the client);
	// otherwise it refuses with Overloaded (unary calls).
	Block bool
	// ReceivedAt is when the request had arrived; the ack stage is measured from it, and the log stores it.
	ReceivedAt time.Time
	// CheckedAt is when it had been found good; the queue stage is measured from it.
	CheckedAt time.Time

	// Done is called exactly once for every Submit that returned nil, on a goroutine of the service (for level
	// Buffered: before Submit returns, on the caller's). It must not block. Buf, Raw and Endpoint are nil by then.
	Done func(*Submission)

	// The outcome, set before Done. Err nil: acknowledged at Level.
	Err *refusal.Error
	// FirstLSN and LastLSN are 0 at level Buffered.
	FirstLSN, LastLSN uint64
	// AckedRecords is the number of records stored; for a duplicate, that of the first time.
	AckedRecords uint32
	// Duplicate: the batch had been stored before, and the positions are those of the first time.
	Duplicate bool

	// The fair queue's.
	admitted *tenant // from Admit until it is queued or withdrawn
	charge   int64
	next     *Submission
}

// check panics where the caller has broken the contract.
func (s *Submission) check() {
	if s.admitted == nil || s.Buf == nil || s.Records == 0 || s.Done == nil || s.Level < Buffered || s.Level > Committed {
		panic(fmt.Sprintf("ingestion: impossible submission of %d records at level %d, admitted %t",
			s.Records, s.Level, s.admitted != nil))
	}
	s.Err, s.FirstLSN, s.LastLSN, s.AckedRecords, s.Duplicate = nil, 0, 0, 0, false
}

// takeBuffer ends the submission's hold on its buffer, which somebody else owns from now on.
func (s *Submission) takeBuffer() { s.Buf, s.Raw, s.Endpoint = nil, nil, nil }

// releaseBuffer gives the buffer back to its pool.
func (s *Submission) releaseBuffer() {
	s.Buf.Release()
	s.takeBuffer()
}

// fail sets the outcome of a submission that is not acknowledged.
func (s *Submission) fail(err *refusal.Error) {
	s.Err = err
	s.FirstLSN, s.LastLSN, s.AckedRecords, s.Duplicate = 0, 0, 0, false
}
