package dedupe

// WindowBatches is the number of batches remembered for each producer. proto/storage/ingestion.proto promises it.
const WindowBatches = 128

// ProducerID is chosen by the client at random.
type ProducerID = [16]byte

// Stamp identifies one batch and says where the log holds it.
type Stamp struct {
	Tenant   string
	Producer ProducerID
	Epoch    uint32
	Records  uint32
	Sequence uint64
	// FirstLSN is the log position of the batch's first record.
	FirstLSN uint64
}
