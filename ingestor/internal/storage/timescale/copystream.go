package timescale

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/jackc/pgx/v5"
)

// A binary COPY stream is a header, rows, and a trailer; integers are big-endian.
//
//	header   "PGCOPY\n\xff\r\n\0", int32 flags = 0, int32 length of the header's extension = 0
//	row      int16 number of fields; for each field int32 length (-1: NULL) and the value
//	trailer  int16 -1
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"

	// fillBytes is how much is encoded at once: what the processor's first cache takes.
	fillBytes = 16 << 10

	// postgresEpochMicros is 2000-01-01 in microseconds since 1970-01-01.
	postgresEpochMicros = 946_684_800_000_000

	jsonbVersion = 1
)

// rowSource gives a COPY its rows.
type rowSource interface {
	// appendRow appends the next row to dst. After the last one it returns io.EOF.
	appendRow(dst []byte) ([]byte, error)
}

// copyStream encodes the rows of a source while they are read. It fills every buffer that it is given, because each
// becomes a message and a system call. The buffer is kept between uses.
type copyStream struct {
	source rowSource
	buf    []byte
	sent   int   // bytes of buf that have been read
	end    error // io.EOF behind the trailer, or the source's error
}

// run copies n rows of source with one COPY. An error of the source comes back as it is.
func (s *copyStream) run(ctx context.Context, tx pgx.Tx, sql string, source rowSource, n int) error {
	s.reset(source)
	reader := &copyReader{stream: s}
	tag, err := tx.Conn().PgConn().CopyFrom(ctx, reader, sql)
	reader.stop()
	switch {
	case s.end != nil && !errors.Is(s.end, io.EOF):
		return s.end
	case err != nil:
		return err
	case tag.RowsAffected() != int64(n):
		return fmt.Errorf("timescale: COPY stored %d rows of %d", tag.RowsAffected(), n)
	}
	return nil
}

// copyReader is a stream for the time of one COPY. Where the connection breaks, the driver's CopyFrom returns before its goroutine has ended
// that reads (pgx 5.12): without this it would read on from records that are released by then, or take bytes from the next attempt's stream.
type copyReader struct {
	mu     sync.Mutex
	stream *copyStream // nil once the COPY is over
}

var errCopyOver = errors.New("timescale: the COPY is over")

func (r *copyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream == nil {
		return 0, errCopyOver
	}
	return r.stream.Read(p)
}

// stop returns when no Read is under way, and lets none begin.
func (r *copyReader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream = nil
}

func (s *copyStream) reset(source rowSource) {
	s.source, s.sent, s.end = source, 0, nil
	s.buf = append(s.buf[:0], copyHeader...)
}

func (s *copyStream) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if s.sent == len(s.buf) {
			if s.end != nil {
				return n, s.end
			}
			s.fill()
		}
		c := copy(p[n:], s.buf[s.sent:])
		s.sent += c
		n += c
	}
	return n, nil
}

func (s *copyStream) fill() {
	s.buf, s.sent = s.buf[:0], 0
	for len(s.buf) < fillBytes && s.end == nil {
		s.buf, s.end = s.source.appendRow(s.buf)
	}
	if errors.Is(s.end, io.EOF) {
		s.buf = append(s.buf, copyTrailer...)
	}
}

func appendFieldCount(dst []byte, n int) []byte { return binary.BigEndian.AppendUint16(dst, uint16(n)) }

func appendInt16(dst []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, 0, 0, 0, 2), uint16(v))
}

func appendInt64(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), uint64(v))
}

func appendFloat64(dst []byte, v float64) []byte { return appendInt64(dst, int64(math.Float64bits(v))) }

// appendTime appends a timestamptz, rounded down to a microsecond.
func appendTime(dst []byte, unixNano int64) []byte {
	return appendInt64(dst, floorMicros(unixNano)-postgresEpochMicros)
}

func floorMicros(unixNano int64) int64 {
	micros := unixNano / 1000
	if unixNano%1000 < 0 {
		micros--
	}
	return micros
}

// appendBytes appends a text, a bytea or a uuid.
func appendBytes[T string | []byte](dst []byte, v T) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
}

// appendJSONB appends a jsonb; NULL where it is empty.
func appendJSONB(dst []byte, v []byte) []byte {
	if len(v) == 0 {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)+1))
	return append(append(dst, jsonbVersion), v...)
}
