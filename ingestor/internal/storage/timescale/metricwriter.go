package timescale

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// MetricWriter stores batches of metrics, each exactly once. It belongs to one goroutine at a time.
type MetricWriter struct {
	db           *Database
	transactions *TransactionManager
	repository   *MetricRepository

	id      uuid.UUID // of this writer's row in metric_checkpoints
	stored  int64     // number of the last batch that is known to be stored
	written Written   // of the last attempt
}

// NewMetricWriter returns a writer with an identity of its own. It does not connect.
func NewMetricWriter(db *Database) *MetricWriter {
	return &MetricWriter{db: db, transactions: NewTransactionManager(db), repository: NewMetricRepository(), id: uuid.New()}
}

// errStored says that an earlier attempt, whose outcome was not known, did commit.
var errStored = errors.New("timescale: the batch is stored already")

// Write stores metrics in one transaction. After an error call it again with the same metrics, until it returns nil: an
// attempt that did commit is found by its batch number, and nothing is stored twice.
func (w *MetricWriter) Write(ctx context.Context, metrics []Metric) (Written, error) {
	if len(metrics) == 0 {
		return Written{}, nil
	}
	if err := w.db.Prepare(ctx); err != nil {
		return Written{}, err
	}
	minTime, maxTime := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range metrics {
		minTime, maxTime = min(minTime, metrics[i].TimeUnixNano), max(maxTime, metrics[i].TimeUnixNano)
	}
	if err := w.db.partitions.ensure(ctx, "metrics", minTime, maxTime); err != nil {
		return Written{}, err
	}
	err := w.transactions.Run(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if err := w.advance(ctx, tx); err != nil {
			return err
		}
		w.written, err = w.repository.Copy(ctx, tx, metrics)
		return err
	})
	if err != nil && !errors.Is(err, errStored) {
		return Written{}, err
	}
	w.stored++
	w.db.counters.count("metrics", w.written)
	return w.written, nil
}

// advance moves the checkpoint row to the next batch. It comes before the COPY: it waits for an earlier attempt that is
// still being committed, and finds what became of it.
func (w *MetricWriter) advance(ctx context.Context, tx pgx.Tx) error {
	tag, err := tx.Exec(ctx, `
		INSERT INTO ingestor.metric_checkpoints AS c (writer_id, batch) VALUES ($1, $2)
		ON CONFLICT (writer_id) DO UPDATE SET batch = excluded.batch, updated_at = now() WHERE c.batch = excluded.batch - 1`,
		[16]byte(w.id), w.stored+1)
	if err != nil {
		return fmt.Errorf("timescale: move the checkpoint of metrics: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errStored
	}
	return nil
}

// Close removes the writer's row. The writer must not be used after it.
func (w *MetricWriter) Close(ctx context.Context) error {
	if w.stored == 0 {
		return nil
	}
	_, err := w.db.pool.Exec(ctx, `DELETE FROM ingestor.metric_checkpoints WHERE writer_id = $1`, [16]byte(w.id))
	return err
}
