package ledger

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

// State is what is known about a batch.
type State byte

// States of a batch. A batch that was never sent has state Unsent.
const (
	Unsent  State = iota
	Unknown       // sent, without an answer that settles it
	Stored        // acked
	Absent        // refused
)

// Batch is the life of one batch.
type Batch struct {
	UnixMilli int64
	Row       uint64
	FirstLSN  uint64 // of the ack; 0 where unknown
	Records   uint32
	Endpoint  uint32
	Tenant    uint16
	State     State
	Level     byte
	Code      byte // of the refusal
	// TurnedDown tells whether an attempt got a negative answer that did not settle the outcome, and no positive one came after it.
	TurnedDown bool
	Duplicate  bool // the ack was for a batch that had been stored before
}

// Producer holds the batches of one producer; batch i has sequence First+i.
type Producer struct {
	Epoch   uint32
	First   uint64
	Batches []Batch
}

// Batch returns the batch with this sequence, or nil where it was never sent.
func (p *Producer) Batch(sequence uint64) *Batch {
	if sequence < p.First || sequence-p.First >= uint64(len(p.Batches)) {
		return nil
	}
	if b := &p.Batches[sequence-p.First]; b.State != Unsent {
		return b
	}
	return nil
}

// Ledger is a file in memory.
type Ledger struct {
	Header    Header
	Producers map[uint16]*Producer
	// Crashed tells whether the server has been ended by force while the ledger was written.
	Crashed bool
	// TornBytes is the length of the incomplete entry at the end.
	TornBytes int
}

// CorruptionError says where a ledger cannot be read or contradicts itself.
type CorruptionError struct {
	OffsetBytes int64
	Reason      string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("ledger: at byte %d: %s", e.OffsetBytes, e.Reason)
}

// Open reads the ledger file at path.
func Open(path string) (*Ledger, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l, err := Read(bufio.NewReaderSize(file, 256<<10))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return l, file.Close()
}

// Read reads a ledger. An entry at the very end that is cut short or fails its checksum is taken as torn.
func Read(r io.Reader) (*Ledger, error) {
	l := &Ledger{Producers: make(map[uint16]*Producer)}
	offset, err := l.readHeader(r)
	if err != nil {
		return nil, err
	}
	block := make([]byte, entryBytes)
	for {
		n, err := io.ReadFull(r, block)
		switch {
		case errors.Is(err, io.EOF):
			return l, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			l.TornBytes = n
			return l, nil
		case err != nil:
			return nil, fmt.Errorf("ledger: %w", err)
		}
		var e entry
		if !e.parse(block) {
			if _, err := io.ReadFull(r, block[:1]); errors.Is(err, io.EOF) {
				l.TornBytes = entryBytes
				return l, nil
			}
			return nil, &CorruptionError{offset, "checksum differs"}
		}
		if reason := l.apply(&e); reason != "" {
			return nil, &CorruptionError{offset, reason}
		}
		offset += entryBytes
	}
}

// maxHeaderBytes bounds what a damaged length can make the reader allocate.
const maxHeaderBytes = 64 << 20

func (l *Ledger) readHeader(r io.Reader) (offset int64, err error) {
	var head [len(magic) + 8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, &CorruptionError{0, "no header"}
	}
	size := binary.LittleEndian.Uint32(head[len(magic):])
	if string(head[:len(magic)]) != magic || size > maxHeaderBytes {
		return 0, &CorruptionError{0, "not a ledger"}
	}
	text, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil || len(text) != int(size) {
		return 0, &CorruptionError{int64(len(head)), "header is cut short"}
	}
	if crc32.Checksum(text, castagnoli) != binary.LittleEndian.Uint32(head[len(magic)+4:]) {
		return 0, &CorruptionError{int64(len(head)), "checksum of the header differs"}
	}
	if err := json.Unmarshal(text, &l.Header); err != nil {
		return 0, &CorruptionError{int64(len(head)), err.Error()}
	}
	return int64(len(head) + len(text)), nil
}

// maxSequenceGap bounds how far a sequence may jump; the load generator counts one by one.
const maxSequenceGap = 1 << 20

// apply adds one entry and returns what is wrong with it, or "".
func (l *Ledger) apply(e *entry) string {
	if e.kind == kindCrashed {
		l.Crashed = true
		return ""
	}
	p := l.Producers[e.producer]
	if e.kind == kindSent {
		if p == nil {
			p = &Producer{Epoch: e.epoch, First: e.sequence}
			l.Producers[e.producer] = p
		}
		return p.sent(e, len(l.Header.Tenants), len(l.Header.Endpoints))
	}
	if p == nil {
		return "an answer to a producer that sent nothing"
	}
	b := p.Batch(e.sequence)
	switch {
	case b == nil || e.epoch != p.Epoch:
		return "an answer to a batch that was not sent"
	case b.State != Unknown:
		return "a second answer to one batch"
	case e.kind == kindAcked && e.c != b.Records:
		return "an ack for another number of records than were sent"
	case e.kind == kindAcked:
		b.State, b.FirstLSN, b.Level, b.Duplicate, b.TurnedDown = Stored, e.a, e.code, e.d == 1, false
	case e.kind == kindRefused:
		b.State, b.Code = Absent, e.code
	case e.kind == kindTurnedDown:
		b.TurnedDown = true
	default:
		return fmt.Sprintf("unknown kind of entry %d", e.kind)
	}
	return ""
}

func (p *Producer) sent(e *entry, tenants, endpoints int) string {
	next := p.First + uint64(len(p.Batches))
	tenant, endpoint := e.d&(MaxTenants-1), e.d>>tenantBits
	switch {
	case e.epoch != p.Epoch:
		return "two epochs of one producer in one ledger"
	case e.sequence < next:
		return "a batch is sent for the first time twice, or out of order"
	case e.sequence-next > maxSequenceGap:
		return "sequence jumps too far"
	case e.c == 0 || e.c > record.MaxRecords:
		return "number of records is out of range"
	case int(tenant) >= tenants || int(endpoint) >= endpoints:
		return "tenant or endpoint is not in the header"
	}
	for ; next < e.sequence; next++ {
		p.Batches = append(p.Batches, Batch{})
	}
	p.Batches = append(p.Batches, Batch{
		UnixMilli: int64(e.a), Row: e.b, Records: e.c,
		Endpoint: endpoint, Tenant: uint16(tenant), State: Unknown,
	})
	return ""
}
