package timescale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
)

// RecordSink stores generations of one log. It implements processor.Sink and belongs to one goroutine at a time.
type RecordSink struct {
	db           *Database
	transactions *TransactionManager
	repository   *RecordRepository
	walID        [16]byte

	epoch     int64     // of the claimed checkpoint; 0 before it is claimed
	limit     int       // records of the next transaction, 0 for as configured; see adapt
	unsettled unsettled // the last transaction, where its outcome is not known
	batches   []located
	chunk     []RecordBatch
}

// unsettled is a transaction that stored written and moved the checkpoint to last, if it committed. Zero: none.
type unsettled struct {
	last    uint64
	written Written
}

// located is a batch with what a transaction needs to know of it.
type located struct {
	RecordBatch
	last             uint64
	minTime, maxTime int64
}

// NewRecordSink returns the sink for the log with the given identity. It does not connect.
func NewRecordSink(db *Database, walID [16]byte) *RecordSink {
	return &RecordSink{db: db, transactions: NewTransactionManager(db), repository: NewRecordRepository(walID), walID: walID}
}

// SinkName is the sink's name in the manifest.
const SinkName = "timescale"

// Name returns SinkName.
func (s *RecordSink) Name() string { return SinkName }

// Flushed returns the log position up to which the database holds everything. The first call claims the checkpoint,
// which fences off an older owner of the same log. Later calls return a *FencedError once a newer one has done that.
func (s *RecordSink) Flushed(ctx context.Context) (uint64, error) {
	if err := s.db.Prepare(ctx); err != nil {
		return 0, err
	}
	if s.epoch == 0 {
		return s.claim(ctx)
	}
	flushed, epoch, err := s.checkpoint(ctx, s.db.pool)
	if err != nil {
		return 0, err
	}
	if epoch != s.epoch {
		return 0, &FencedError{OwnEpoch: s.epoch, StoredEpoch: epoch}
	}
	s.settle(flushed)
	return flushed, nil
}

// settle counts the rows of an unsettled transaction that turns out to have committed. Where flushed lies below, it did
// not, or it is still under way and the next attempt will conflict with it.
func (s *RecordSink) settle(flushed uint64) {
	if s.unsettled.last != 0 && flushed >= s.unsettled.last {
		s.db.counters.count("records", s.unsettled.written)
		s.unsettled = unsettled{}
	}
}

// claim raises the epoch of the row. It waits for a transaction of the former owner that holds the row, so that the
// position that it returns is final.
func (s *RecordSink) claim(ctx context.Context) (uint64, error) {
	var flushed, epoch int64
	err := s.db.pool.QueryRow(ctx, `
		INSERT INTO ingestor.sink_checkpoints AS c (wal_id, flushed_lsn, owner_epoch) VALUES ($1, 0, 1)
		ON CONFLICT (wal_id) DO UPDATE SET owner_epoch = c.owner_epoch + 1, updated_at = now()
		RETURNING flushed_lsn, owner_epoch`, s.walID).Scan(&flushed, &epoch)
	if err != nil {
		return 0, fmt.Errorf("timescale: claim the checkpoint: %w", err)
	}
	s.epoch = epoch
	s.db.logger.Info("record checkpoint claimed", "flushed_lsn", flushed, "owner_epoch", epoch)
	return uint64(flushed), nil
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// checkpoint reads the row; epoch 0 says that it does not exist.
func (s *RecordSink) checkpoint(ctx context.Context, q querier) (flushed uint64, epoch int64, err error) {
	var lsn int64
	err = q.QueryRow(ctx, `SELECT flushed_lsn, owner_epoch FROM ingestor.sink_checkpoints WHERE wal_id = $1`, s.walID).
		Scan(&lsn, &epoch)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("timescale: read the checkpoint: %w", err)
	}
	return uint64(lsn), epoch, nil
}

// Flush stores the records of g above previous and moves the checkpoint to g.Last. A generation of more than
// Config.TransactionRecords records (fewer after a failure) is stored in several transactions, cut between batches, in
// log order, each with its checkpoint. After an error the checkpoint may therefore lie within g: ask Flushed.
//
// The errors: *ConflictError (the checkpoint is not at previous), *FencedError and *InvariantError (both fatal),
// *CommitUnknownError; any other one is the database's, and trying again may help.
func (s *RecordSink) Flush(ctx context.Context, g *memtable.Generation, previous uint64) error {
	if s.epoch == 0 {
		return errors.New("timescale: Flush before Flushed has claimed the checkpoint")
	}
	if g.IsGap() {
		return s.flushGap(ctx, previous, g.Last)
	}
	defer s.forget()
	if err := s.locate(g, previous); err != nil {
		return err
	}
	for lo := 0; lo < len(s.batches); {
		hi := s.chunkEnd(lo)
		err := s.flushChunk(ctx, s.batches[lo:hi], previous)
		s.adapt(s.batches[lo:hi], err)
		if err != nil {
			return err
		}
		previous, lo = s.batches[hi-1].last, hi
	}
	return nil
}

// flushGap notes in the table gaps that there are no records between previous and last.
func (s *RecordSink) flushGap(ctx context.Context, previous, last uint64) error {
	return s.transactions.Run(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO ingestor.gaps (wal_id, first_lsn, last_lsn) VALUES ($1, $2, $3)`,
			s.walID, int64(previous+1), int64(last))
		if err != nil {
			return fmt.Errorf("timescale: note a gap: %w", err)
		}
		return s.move(ctx, tx, previous, last)
	})
}

// locate lists the batches above previous in log order. Together they must be exactly the records previous+1 to g.Last.
func (s *RecordSink) locate(g *memtable.Generation, previous uint64) error {
	for _, t := range g.Tables {
		for i := range t.Batches {
			b := &t.Batches[i]
			if b.Last <= previous {
				continue
			}
			minTime, maxTime, err := timeBounds(t.Tenant, b)
			if err != nil {
				return &InvariantError{Err: err}
			}
			s.batches = append(s.batches, located{
				RecordBatch: RecordBatch{Tenant: t.Tenant, Endpoint: t.Endpoint, Raw: b.Raw, First: b.First, Records: b.Records()},
				last:        b.Last, minTime: minTime, maxTime: maxTime,
			})
		}
	}
	slices.SortFunc(s.batches, func(a, b located) int { return cmp.Compare(a.First, b.First) })
	position := previous
	for i := range s.batches {
		if b := &s.batches[i]; b.First != position+1 {
			return &InvariantError{Err: fmt.Errorf("generation %d-%d has a batch at LSN %d where %d is due",
				g.First, g.Last, b.First, position+1)}
		}
		position = s.batches[i].last
	}
	if position != g.Last {
		return &InvariantError{Err: fmt.Errorf("generation %d-%d ends at LSN %d", g.First, g.Last, position)}
	}
	return nil
}

// timeBounds returns the bounds of a batch's timestamps, and looks for them where nobody has.
func timeBounds(tenant string, b *memtable.Batch) (minTime, maxTime int64, err error) {
	if b.MinTimeUnixNano != 0 {
		return b.MinTimeUnixNano, b.MaxTimeUnixNano, nil
	}
	var h batch.Header
	if refused := batch.Validate(b.Raw, tenant, batch.Limits{}, &h); refused != nil {
		return 0, 0, fmt.Errorf("batch at LSN %d: %w", b.First, refused)
	}
	return h.MinTimeUnixNano, h.MaxTimeUnixNano, nil
}

// forget lets go of the generation and keeps the memory of the lists.
func (s *RecordSink) forget() {
	clear(s.batches)
	clear(s.chunk)
	s.batches, s.chunk = s.batches[:0], s.chunk[:0]
}

// chunkEnd returns the end of the transaction that begins with batch lo. It holds at least one batch.
func (s *RecordSink) chunkEnd(lo int) int {
	limit := s.db.config.TransactionRecords
	if s.limit != 0 {
		limit = s.limit
	}
	records, hi := s.batches[lo].Records, lo+1
	for hi < len(s.batches) && records+s.batches[hi].Records <= limit {
		records += s.batches[hi].Records
		hi++
	}
	return hi
}

// adapt halves the next transaction after a failure, down to a batch, and doubles it after a success, up to what is configured: a
// transaction that is too much for the database, for its time limits or its locks, would otherwise be tried for ever.
func (s *RecordSink) adapt(batches []located, err error) {
	if err == nil {
		if s.limit *= 2; s.limit >= s.db.config.TransactionRecords {
			s.limit = 0
		}
		return
	}
	records := 0
	for i := range batches {
		records += batches[i].Records
	}
	s.limit = max(1, records/2)
}

// flushChunk stores one transaction's batches. The checkpoint row is moved last: until then another server can claim
// it, even while this one's connection hangs.
func (s *RecordSink) flushChunk(ctx context.Context, batches []located, previous uint64) error {
	s.chunk = s.chunk[:0]
	minTime, maxTime := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range batches {
		s.chunk = append(s.chunk, batches[i].RecordBatch)
		minTime, maxTime = min(minTime, batches[i].minTime), max(maxTime, batches[i].maxTime)
	}
	if err := s.db.partitions.ensure(ctx, "records", minTime, maxTime); err != nil {
		return err
	}
	var written Written
	last := batches[len(batches)-1].last
	err := s.transactions.Run(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if written, err = s.repository.Copy(ctx, tx, s.chunk); err != nil {
			return err
		}
		return s.move(ctx, tx, previous, last)
	})
	var unknown *CommitUnknownError
	switch {
	case err == nil:
		s.db.counters.count("records", written)
		s.unsettled = unsettled{}
	case errors.As(err, &unknown):
		s.unsettled = unsettled{last: last, written: written}
	}
	return err
}

// move sets the checkpoint from previous to last, where it is ours and there.
func (s *RecordSink) move(ctx context.Context, tx pgx.Tx, previous, last uint64) error {
	tag, err := tx.Exec(ctx, `
		UPDATE ingestor.sink_checkpoints SET flushed_lsn = $1, updated_at = now()
		WHERE wal_id = $2 AND flushed_lsn = $3 AND owner_epoch = $4`, int64(last), s.walID, int64(previous), s.epoch)
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	flushed, epoch, err := s.checkpoint(ctx, tx)
	switch {
	case err != nil:
		return err
	case epoch != s.epoch:
		return &FencedError{OwnEpoch: s.epoch, StoredEpoch: epoch}
	default:
		return &ConflictError{ExpectedLSN: previous, StoredLSN: flushed}
	}
}
