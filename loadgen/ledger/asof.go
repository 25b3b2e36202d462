package ledger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Extent says how far a ledger had come at two moments that enclose a crash, in bytes of its file. Either may lie inside an entry,
// which then does not count.
type Extent struct {
	// AnsweredBytes: answers before this were there before the crash.
	AnsweredBytes int64
	// SentBytes: what was sent by the time of the crash lies before this.
	SentBytes int64
}

// CopyAsOf writes to dst, which must not exist, the ledger at src as it was at a crash: all answers that were there before
// it, all that was sent until it, and no answer that may have come after it, so that the batch counts as unknown. src may still be
// growing.
func CopyAsOf(dst, src string, at Extent) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := bufio.NewWriterSize(out, 256<<10)
	if err := copyAsOf(w, bufio.NewReaderSize(in, 256<<10), at); err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	return w.Flush()
}

func copyAsOf(w io.Writer, r io.Reader, at Extent) error {
	var head [len(magic) + 8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return &CorruptionError{0, "no header"}
	}
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	n, err := io.CopyN(w, r, int64(binary.LittleEndian.Uint32(head[len(magic):])))
	if err != nil {
		return fmt.Errorf("ledger: copy the header: %w", err)
	}
	var block [entryBytes]byte
	for end := int64(len(head)) + n + entryBytes; end <= max(at.SentBytes, at.AnsweredBytes); end += entryBytes {
		if _, err := io.ReadFull(r, block[:]); err != nil {
			return fmt.Errorf("ledger: it is shorter than it was: %w", err)
		}
		if end > at.AnsweredBytes && kind(block[0]) != kindSent {
			continue
		}
		if _, err := w.Write(block[:]); err != nil {
			return err
		}
	}
	return nil
}
