package ledger

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
)

// Writer appends to one ledger file. It is safe for concurrent use. The first failed write is kept and returned by all
// later calls.
type Writer struct {
	mu      sync.Mutex
	file    *os.File
	buffer  *bufio.Writer
	scratch [entryBytes]byte
	acked   uint64 // batches
	refused uint64 // batches
	err     error
}

// Create starts a new ledger; the file must not exist.
func Create(path string, header Header) (*Writer, error) {
	if len(header.Tenants) > MaxTenants || len(header.Endpoints) > MaxEndpoints {
		return nil, fmt.Errorf("ledger: more than %d tenants or %d endpoints", MaxTenants, MaxEndpoints)
	}
	text, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("ledger: encode header: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	head := append([]byte(nil), magic...)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(text)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(text, castagnoli))
	if _, err := file.Write(append(head, text...)); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: write header: %w", err), file.Close())
	}
	return &Writer{file: file, buffer: bufio.NewWriterSize(file, 256<<10)}, nil
}

// Sent notes a batch before it is sent for the first time.
func (w *Writer) Sent(s Sent) error {
	return w.write(&entry{
		kind: kindSent, producer: s.Producer, epoch: s.Epoch, sequence: s.Sequence,
		a: uint64(s.UnixMilli), b: s.Row, c: s.Records, d: s.Endpoint<<tenantBits | s.Tenant,
	})
}

// Acked notes a positive answer.
func (w *Writer) Acked(a Acked) error {
	e := entry{
		kind: kindAcked, code: a.Level, producer: a.Producer, epoch: a.Epoch, sequence: a.Sequence,
		a: a.FirstLSN, c: a.Records,
	}
	if a.Duplicate {
		e.d = 1
	}
	return w.write(&e)
}

// Refused notes a negative answer.
func (w *Writer) Refused(r Refused) error {
	return w.write(&entry{kind: kindRefused, code: r.Code, producer: r.Producer, epoch: r.Epoch, sequence: r.Sequence})
}

// TurnedDown notes a negative answer to one attempt, after which the outcome is still unknown.
func (w *Writer) TurnedDown(r Refused) error {
	return w.write(&entry{kind: kindTurnedDown, code: r.Code, producer: r.Producer, epoch: r.Epoch, sequence: r.Sequence})
}

// Crashed notes that the server's process was ended by force.
func (w *Writer) Crashed() error { return w.write(&entry{kind: kindCrashed}) }

// AckedBatches is the number of positive answers noted so far.
func (w *Writer) AckedBatches() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// RefusedBatches is the number of negative answers noted so far.
func (w *Writer) RefusedBatches() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused
}

func (w *Writer) write(e *entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.kind {
	case kindAcked:
		w.acked++
	case kindRefused:
		w.refused++
	}
	if w.err == nil {
		if _, err := w.buffer.Write(e.append(w.scratch[:0])); err != nil {
			w.err = fmt.Errorf("ledger: %w", err)
		}
	}
	return w.err
}

// Flush hands everything to the operating system.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		if err := w.buffer.Flush(); err != nil {
			w.err = fmt.Errorf("ledger: %w", err)
		}
	}
	return w.err
}

// Close flushes and closes the file. It must be called once, after all other calls have returned.
func (w *Writer) Close() error {
	return errors.Join(w.Flush(), w.file.Close())
}
