package timescale

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sort"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
)

const (
	copyRecords = `COPY ingestor.records (ts, ts_unix_nano, tenant_id, endpoint_id, event_id, version, content_type, payload,
		attributes, lsn, wal_id) FROM STDIN (FORMAT binary)`
	recordFields = 11

	// keepAttributeBytes bounds the memory that a repository keeps for the attributes of its next batch.
	keepAttributeBytes = 8 << 20
)

// RecordBatch is one batch of records as the log holds it.
type RecordBatch struct {
	Tenant, Endpoint string
	// Raw is the encoded WriteBatchRequest. It is read while Copy runs and not kept.
	Raw []byte
	// First is the log position of the first of its Records records.
	First   uint64
	Records int
}

// RecordRepository writes records. It belongs to one goroutine at a time and keeps its buffers between calls.
type RecordRepository struct {
	walID  [16]byte
	stream copyStream
	rows   batch.Rows
}

// NewRecordRepository returns a repository for the records of one log.
func NewRecordRepository(walID [16]byte) *RecordRepository { return &RecordRepository{walID: walID} }

// Copy writes all records of batches within tx. Records that the server refuses for their content go to dead_letters.
func (r *RecordRepository) Copy(ctx context.Context, tx pgx.Tx, batches []RecordBatch) (Written, error) {
	set := &recordSet{repository: r, batches: batches, starts: make([]int, len(batches)+1)}
	for i := range batches {
		set.starts[i+1] = set.starts[i] + batches[i].Records
	}
	written, err := writeIsolating(ctx, tx, set, 0, set.starts[len(batches)])
	r.rows.Reset() // lets go of the caller's bytes
	return written, err
}

// decode reads one batch into r.rows.
func (r *RecordRepository) decode(b *RecordBatch) error {
	r.rows.Reset()
	if cap(r.rows.Attrs) > keepAttributeBytes {
		r.rows.Attrs = nil
	}
	if err := r.rows.AppendBatch(b.Raw, b.First); err != nil {
		return &InvariantError{Err: fmt.Errorf("decode the batch at LSN %d: %w", b.First, err)}
	}
	if n := r.rows.Len(); n != b.Records {
		return &InvariantError{Err: fmt.Errorf("the batch at LSN %d holds %d records, not %d", b.First, n, b.Records)}
	}
	return nil
}

// recordSet numbers the records of several batches from 0.
type recordSet struct {
	repository *RecordRepository
	batches    []RecordBatch
	starts     []int // starts[i] is the number of the first record of batch i; one entry more than batches
}

func (s *recordSet) copyRange(ctx context.Context, tx pgx.Tx, lo, hi int) error {
	return s.repository.stream.run(ctx, tx, copyRecords, &recordSource{set: s, next: lo, end: hi}, hi-lo)
}

// batchOf returns the index of the batch that holds record i.
func (s *recordSet) batchOf(i int) int {
	return sort.Search(len(s.batches), func(b int) bool { return s.starts[b+1] > i })
}

// deadRecord is the body of a record's dead letter.
type deadRecord struct {
	TenantID          string          `json:"tenant_id"`
	EndpointID        string          `json:"endpoint_id"`
	EventID           uuid.UUID       `json:"event_id"`
	TimestampUnixNano int64           `json:"timestamp_unix_nano"`
	Version           uint32          `json:"version"`
	ContentType       string          `json:"content_type"`
	Payload           []byte          `json:"payload"` // base64
	Attributes        json.RawMessage `json:"attributes,omitempty"`
	LSN               uint64          `json:"lsn"`
}

func (s *recordSet) bury(ctx context.Context, tx pgx.Tx, i int, reason string) error {
	index := s.batchOf(i)
	b, rows := &s.batches[index], &s.repository.rows
	if err := s.repository.decode(b); err != nil {
		return err
	}
	row := i - s.starts[index]
	ref := rows.Refs[row]
	dead := deadRecord{
		TenantID: b.Tenant, EndpointID: b.Endpoint, EventID: uuid.UUID(rows.EventID(row)),
		TimestampUnixNano: ref.TimeUnixNano, Version: ref.Version, ContentType: rows.ContentType(row),
		Payload: rows.Payload(row), Attributes: rows.Attributes(row), LSN: ref.LSN,
	}
	body, err := json.Marshal(dead)
	if err != nil {
		return fmt.Errorf("timescale: dead letter at LSN %d: %w", ref.LSN, err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO ingestor.dead_letters (source, reason, tenant_id, wal_id, lsn, event_id, body)
		VALUES ('records', $1, $2, $3, $4, $5, $6)`,
		reason, []byte(b.Tenant), s.repository.walID, int64(ref.LSN), [16]byte(dead.EventID), body)
	return err
}

// recordSource gives a COPY the records next to end-1 of a set, one batch decoded at a time.
type recordSource struct {
	set       *recordSet
	next, end int
	// The batch that is decoded: its records are numbered first to last-1. None at the start.
	first, last int
	batch       *RecordBatch
}

func (s *recordSource) appendRow(dst []byte) ([]byte, error) {
	if s.next == s.end {
		return dst, io.EOF
	}
	r := s.set.repository
	if s.next >= s.last {
		index := s.set.batchOf(s.next)
		s.batch = &s.set.batches[index]
		s.first, s.last = s.set.starts[index], s.set.starts[index+1]
		if err := r.decode(s.batch); err != nil {
			return dst, err
		}
	}
	i := s.next - s.first
	s.next++
	ref := &r.rows.Refs[i]
	dst = appendFieldCount(dst, recordFields)
	dst = appendTime(dst, ref.TimeUnixNano)
	dst = appendInt64(dst, ref.TimeUnixNano)
	dst = appendBytes(dst, s.batch.Tenant)
	dst = appendBytes(dst, s.batch.Endpoint)
	dst = appendBytes(dst, r.rows.EventID(i))
	dst = appendInt64(dst, int64(ref.Version))
	dst = appendBytes(dst, r.rows.ContentType(i))
	dst = appendBytes(dst, r.rows.Payload(i))
	dst = appendJSONB(dst, r.rows.Attributes(i))
	dst = appendInt64(dst, int64(ref.LSN))
	return appendBytes(dst, r.walID[:]), nil
}
