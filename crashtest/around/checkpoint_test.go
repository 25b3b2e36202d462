package around_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// checkpointFits compares, in one snapshot, the checkpoint row with the rows of records: those of positions 1 to the checkpoint must be there,
// each once, and no others. The sum of the positions keeps one that is missing from making up for one that is there twice. The judge looks at
// identities, at a round's end; this query finds in the middle of one what would be put right by then.
func checkpointFits(ctx context.Context, dsn string) (err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var flushed, rows, lowest, highest int64
	var sum bool
	err = conn.QueryRow(ctx, `
		SELECT c.flushed_lsn, count(r.lsn), coalesce(min(r.lsn), 1), coalesce(max(r.lsn), 0),
		       coalesce(sum(r.lsn), 0) = c.flushed_lsn::numeric * (c.flushed_lsn + 1) / 2
		FROM ingestor.sink_checkpoints c LEFT JOIN ingestor.records r ON r.wal_id = c.wal_id
		GROUP BY c.wal_id`).Scan(&flushed, &rows, &lowest, &highest, &sum)
	if err != nil {
		return fmt.Errorf("compare checkpoint and rows: %w", err)
	}
	if rows != flushed || lowest != 1 || highest != flushed || !sum {
		return fmt.Errorf("the checkpoint is at LSN %d, and there are %d rows, LSN %d to %d, sum as it must be: %v",
			flushed, rows, lowest, highest, sum)
	}
	return nil
}
