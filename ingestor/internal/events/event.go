package events

// Kind says what happened.
type Kind uint8

// The kinds of events.
const (
	// NewData: the records First to Last are durable in the log and visible in the memtable.
	NewData Kind = iota
	// GenerationSealed: the memtables that hold First to Last are immutable and wait for the sinks.
	GenerationSealed
	// Flushed: the sink named Sink has committed First to Last.
	Flushed
	// Committed: every configured sink has committed First to Last.
	Committed
	kindCount
)

var kindNames = [kindCount]string{"new_data", "generation_sealed", "flushed", "committed"}

func (k Kind) String() string { return kindNames[k] }

// Event is one thing that happened to the records First to Last, both inclusive.
type Event struct {
	Kind        Kind
	First, Last uint64
	// Sink is set on Flushed events only.
	Sink string
}
