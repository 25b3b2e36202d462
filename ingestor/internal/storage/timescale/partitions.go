package timescale

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Partitions are made for days near the present only, because a client chooses its timestamps and must not be able to
// make thousands of partitions. Rows of other days go into the default partition.
const (
	partitionDaysBack  = 30
	partitionDaysAhead = 2

	day = 24 * time.Hour

	// partitionLayout is the end of a partition's name.
	partitionLayout = "20060102"
)

// partitions makes the daily partitions of natively partitioned tables, ahead of time and on demand. Hypertables need
// none. It is safe for concurrent use.
type partitions struct {
	db  *Database
	now func() time.Time

	mu sync.Mutex
	// settled holds the days for which nothing is left to do: the partition exists or cannot be made any more.
	settled map[partition]struct{}
}

// partition names one day of one table.
type partition struct {
	table string
	day   int64 // since 1970-01-01, UTC
}

func newPartitions(db *Database) partitions {
	return partitions{db: db, now: time.Now, settled: make(map[partition]struct{})}
}

// ensure makes the partitions that rows between two timestamps need, and those of the next days. It runs outside the
// transaction that writes the rows, so that a partition which cannot be made now sends rows to the default partition
// and refuses none.
func (p *partitions) ensure(ctx context.Context, table string, minUnixNano, maxUnixNano int64) error {
	if features, _ := p.db.Features(); features.Hypertables {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	today := dayOf(p.now().UnixNano())
	first, last := today-partitionDaysBack, today+partitionDaysAhead
	p.forgetOutside(first, last)
	for d := first; d <= last; d++ {
		wanted := d >= today || (d >= dayOf(minUnixNano) && d <= dayOf(maxUnixNano))
		if _, done := p.settled[partition{table, d}]; done || !wanted {
			continue
		}
		if err := p.create(ctx, partition{table, d}); err != nil {
			return err
		}
	}
	return nil
}

func (p *partitions) forgetOutside(first, last int64) {
	for known := range p.settled {
		if known.day < first || known.day > last {
			delete(p.settled, known)
		}
	}
}

// create makes one partition. It fails only where the database is out of reach.
func (p *partitions) create(ctx context.Context, wanted partition) error {
	name := wanted.table + "_" + midnight(wanted.day).Format(partitionLayout)
	err := pgx.BeginFunc(ctx, p.db.pool, func(tx pgx.Tx) error {
		// Two servers that make the same partition would make each other fail.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(
			"CREATE TABLE IF NOT EXISTS ingestor.%s PARTITION OF ingestor.%s FOR VALUES FROM ('%s') TO ('%s')",
			pgx.Identifier{name}.Sanitize(), pgx.Identifier{wanted.table}.Sanitize(),
			midnight(wanted.day).Format(time.RFC3339), midnight(wanted.day+1).Format(time.RFC3339)))
		return err
	})
	if err == nil {
		p.settled[wanted] = struct{}{}
		return nil
	}
	pgErr, answered := serverError(err)
	if !answered {
		return fmt.Errorf("timescale: make partition %s: %w", name, err)
	}
	// A check violation means that the default partition holds rows of that day already: they stay together there.
	// Anything else, such as a lock that could not be had, is tried again with the next rows.
	if pgErr.Code == stateCheckViolation {
		p.settled[wanted] = struct{}{}
	}
	p.db.logger.Warn("partition not made, its rows go into the default partition", "partition", name, "error", err)
	return nil
}

// dropped forgets a partition that is gone, so that rows of its day get a new one.
func (p *partitions) dropped(table, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for known := range p.settled {
		if known.table == table && table+"_"+midnight(known.day).Format(partitionLayout) == name {
			delete(p.settled, known)
		}
	}
}

// dayOf rounds down, before 1970 too.
func dayOf(unixNano int64) int64 {
	d := unixNano / int64(day)
	if unixNano%int64(day) < 0 {
		d--
	}
	return d
}

func midnight(d int64) time.Time { return time.Unix(d*int64(day/time.Second), 0).UTC() }
