package timescale

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingestor-project/ingestor/ingestor/internal/retention"
)

// expireRows bounds a transaction that deletes, and with it how long its locks are held.
const expireRows = 10_000

// Expirer removes old rows from one table: "records" or "metrics". It implements retention.Store.
type Expirer struct {
	db    *Database
	table string
}

// NewExpirer returns an Expirer. It does not connect.
func NewExpirer(db *Database, table string) *Expirer { return &Expirer{db: db, table: table} }

// Name returns the name of the store in logs and metrics.
func (e *Expirer) Name() string { return SinkName + "_" + e.table }

// Expire removes the rows that are older than their tenants' cutoffs. Partitions and chunks of which no tenant keeps anything go whole; rows of the
// rest are deleted in small transactions. The rows of whole chunks of a hypertable are not counted.
func (e *Expirer) Expire(ctx context.Context, cutoffs retention.Cutoffs) (rows int64, err error) {
	if err := e.db.Prepare(ctx); err != nil {
		return 0, err
	}
	if earliest := cutoffs.Earliest(); earliest != nil {
		if rows, err = e.dropWhole(ctx, *earliest); err != nil {
			return rows, fmt.Errorf("timescale: drop old days of %s: %w", e.table, err)
		}
	}
	named := make([]string, 0, len(cutoffs.Tenants))
	for tenant, cutoff := range cutoffs.Tenants {
		named = append(named, tenant)
		if cutoff == nil {
			continue
		}
		n, err := e.delete(ctx, "tenant_id = $1", tenant, *cutoff)
		rows += n
		if err != nil {
			return rows, err
		}
	}
	if cutoffs.Default != nil {
		n, err := e.delete(ctx, "tenant_id <> ALL ($1)", named, *cutoffs.Default)
		rows += n
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// delete removes the rows before cutoff of the tenants that a condition on $1 names.
func (e *Expirer) delete(ctx context.Context, condition string, tenants any, cutoff time.Time) (rows int64, err error) {
	// (tableoid, ctid) names a row across partitions. ts is ts_unix_nano rounded down: it lets the planner leave partitions out.
	statement := fmt.Sprintf(`DELETE FROM ingestor.%[1]s WHERE (tableoid, ctid) IN (
		SELECT tableoid, ctid FROM ingestor.%[1]s WHERE %[2]s AND ts <= $2 AND ts_unix_nano < $3 LIMIT %[3]d) AND ts <= $2`,
		pgx.Identifier{e.table}.Sanitize(), condition, expireRows)
	for {
		tag, err := e.db.pool.Exec(ctx, statement, tenants, microsecond(cutoff.UnixNano()), cutoff.UnixNano())
		if err != nil {
			return rows, fmt.Errorf("timescale: delete old rows of %s: %w", e.table, err)
		}
		rows += tag.RowsAffected()
		if tag.RowsAffected() < expireRows {
			return rows, nil
		}
	}
}

// dropWhole drops the partitions or chunks that end at cutoff or before.
func (e *Expirer) dropWhole(ctx context.Context, cutoff time.Time) (rows int64, err error) {
	if features, _ := e.db.Features(); features.Hypertables {
		var schema string
		err := e.db.pool.QueryRow(ctx, `SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
			WHERE e.extname = 'timescaledb'`).Scan(&schema)
		if err != nil {
			return 0, err
		}
		_, err = e.db.pool.Exec(ctx, `SELECT `+pgx.Identifier{schema, "drop_chunks"}.Sanitize()+`($1::regclass, older_than => $2::timestamptz)`,
			"ingestor."+e.table, microsecond(cutoff.UnixNano()))
		return 0, err
	}
	names, err := e.daysBefore(ctx, cutoff)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		n, err := e.dropPartition(ctx, name)
		if err != nil {
			return rows, err
		}
		rows += n
	}
	return rows, nil
}

// daysBefore lists the daily partitions that end at cutoff or before. Those that an operator has attached under other names are left alone.
func (e *Expirer) daysBefore(ctx context.Context, cutoff time.Time) ([]string, error) {
	found, err := e.db.pool.Query(ctx, `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::regclass ORDER BY c.relname`, "ingestor."+e.table)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		text, ok := strings.CutPrefix(name, e.table+"_")
		if !ok {
			continue
		}
		if start, err := time.Parse(partitionLayout, text); err == nil && !start.Add(day).After(cutoff) {
			names = append(names, name)
		}
	}
	return names, nil
}

// dropPartition counts the rows of a partition and drops it. The lock on the parent is held for the drop alone, and not waited for
// longer than the pool's lock timeout.
func (e *Expirer) dropPartition(ctx context.Context, name string) (rows int64, err error) {
	partition := pgx.Identifier{"ingestor", name}.Sanitize()
	err = pgx.BeginFunc(ctx, e.db.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+partition).Scan(&rows); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DROP TABLE "+partition)
		return err
	})
	if err != nil {
		return 0, err
	}
	e.db.partitions.dropped(e.table, name)
	return rows, nil
}
