package timescale

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Written counts what became of the rows that were handed over: their number is Rows + DeadLetters.
type Written struct {
	Rows, DeadLetters int
}

// rowSet is a list of rows that can be written in parts.
type rowSet interface {
	// copyRange writes rows lo to hi-1 with one COPY.
	copyRange(ctx context.Context, tx pgx.Tx, lo, hi int) error
	// bury writes row i to dead_letters.
	bury(ctx context.Context, tx pgx.Tx, i int, reason string) error
}

// writeIsolating writes rows lo to hi-1 of set. Where the server refuses them for their content it writes the two
// halves by themselves, down to the single row, which it buries. The savepoint keeps the transaction usable after a
// refusal.
//
// One bad row among n costs about 2 log2 n statements more, and copies every row about twice more.
func writeIsolating(ctx context.Context, tx pgx.Tx, set rowSet, lo, hi int) (Written, error) {
	if lo == hi {
		return Written{}, nil
	}
	err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error { return set.copyRange(ctx, savepoint, lo, hi) })
	if err == nil {
		return Written{Rows: hi - lo}, nil
	}
	refusal, refused := refusedForContent(err)
	if !refused {
		return Written{}, err
	}
	if hi-lo == 1 {
		return Written{DeadLetters: 1}, set.bury(ctx, tx, lo, refusalReason(refusal))
	}
	middle := lo + (hi-lo)/2
	left, err := writeIsolating(ctx, tx, set, lo, middle)
	if err != nil {
		return Written{}, err
	}
	right, err := writeIsolating(ctx, tx, set, middle, hi)
	return Written{Rows: left.Rows + right.Rows, DeadLetters: left.DeadLetters + right.DeadLetters}, err
}

// refusalReason is what a dead letter says about itself.
func refusalReason(refusal *pgconn.PgError) string {
	return "SQLSTATE " + refusal.Code + ": " + refusal.Message
}
