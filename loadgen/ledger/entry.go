package ledger

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

const (
	magic      = "INGLEDG1"
	entryBytes = 44
	tenantBits = 14

	// MaxTenants is how many tenants an entry can number.
	MaxTenants = 1 << tenantBits
	// MaxEndpoints is the same for endpoints.
	MaxEndpoints = 1 << (32 - tenantBits)
)

type kind byte

const (
	kindSent kind = iota + 1
	kindAcked
	kindRefused
	kindCrashed
	kindTurnedDown
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kinds of runs.
const (
	Records = "records"
	Metrics = "metrics"
)

// Header says how the run's content can be made again.
type Header struct {
	RunID     string      `json:"run_id"` // 32 hexadecimal digits
	Kind      string      `json:"kind"`   // Records or Metrics
	Spec      record.Spec `json:"spec"`
	Tenants   []string    `json:"tenants"`
	Endpoints []string    `json:"endpoints"`
	// Replay is set where a recorded file was sent instead of the spec's records.
	Replay *Replay `json:"replay,omitempty"`
	// Service is the service name of a metrics run; it is unique to the run.
	Service string `json:"service,omitempty"`
	// AckLevel is what is asked for, as in storage.AckLevel; 0: the server's default.
	AckLevel byte `json:"ack_level,omitempty"`
}

// Replay names a recorded file and how its rows become records.
type Replay struct {
	Path            string `json:"path"`
	SHA256          string `json:"sha256"`
	TimestampColumn string `json:"timestamp_column"`
	EndpointColumn  string `json:"endpoint_column,omitempty"`
	Endpoint        string `json:"endpoint,omitempty"`
}

// Sent is a batch that is about to be sent for the first time.
type Sent struct {
	record.Batch
	Epoch  uint32
	Tenant uint32 // index into Header.Tenants
}

// Acked is a positive answer.
type Acked struct {
	Producer  uint16
	Epoch     uint32
	Sequence  uint64
	FirstLSN  uint64 // 0 for level BUFFERED
	Records   uint32
	Level     byte // as in storage.AckLevel
	Duplicate bool
}

// Refused is a negative answer after which the batch is certainly not stored.
type Refused struct {
	Producer uint16
	Epoch    uint32
	Sequence uint64
	Code     byte // as in storage.ErrorCode
}

type entry struct {
	kind     kind
	code     byte
	producer uint16
	epoch    uint32
	sequence uint64
	a, b     uint64
	c, d     uint32
}

func (e *entry) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, byte(e.kind), e.code)
	dst = binary.LittleEndian.AppendUint16(dst, e.producer)
	dst = binary.LittleEndian.AppendUint32(dst, e.epoch)
	dst = binary.LittleEndian.AppendUint64(dst, e.sequence)
	dst = binary.LittleEndian.AppendUint64(dst, e.a)
	dst = binary.LittleEndian.AppendUint64(dst, e.b)
	dst = binary.LittleEndian.AppendUint32(dst, e.c)
	dst = binary.LittleEndian.AppendUint32(dst, e.d)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parse reads one entry of entryBytes; it reports false where the checksum differs.
func (e *entry) parse(b []byte) bool {
	body := b[:entryBytes-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[entryBytes-4:]) {
		return false
	}
	*e = entry{
		kind: kind(b[0]), code: b[1],
		producer: binary.LittleEndian.Uint16(b[2:]),
		epoch:    binary.LittleEndian.Uint32(b[4:]),
		sequence: binary.LittleEndian.Uint64(b[8:]),
		a:        binary.LittleEndian.Uint64(b[16:]),
		b:        binary.LittleEndian.Uint64(b[24:]),
		c:        binary.LittleEndian.Uint32(b[32:]),
		d:        binary.LittleEndian.Uint32(b[36:]),
	}
	return true
}
