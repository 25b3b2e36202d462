package timescale

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// TransactionManager runs functions in transactions. It is safe for concurrent use.
type TransactionManager struct{ db *Database }

// NewTransactionManager returns a manager of db's transactions.
func NewTransactionManager(db *Database) *TransactionManager { return &TransactionManager{db: db} }

// Run prepares the database where that is still to be done, runs fn in one transaction and commits it. When fn fails,
// its error is returned and nothing is stored. A *CommitUnknownError means that it is not known whether everything or
// nothing is stored; after any other error nothing is.
//
// ctx ends the wait for fn, not a commit that is under way: that one is bounded by the statement timeout alone.
func (m *TransactionManager) Run(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if err := m.db.Prepare(ctx); err != nil {
		return err
	}
	err := m.run(ctx, fn)
	m.db.counters.transactions.WithLabelValues(outcome(err)).Inc()
	return err
}

func outcome(err error) string {
	var unknown *CommitUnknownError
	switch {
	case err == nil:
		return "committed"
	case errors.As(err, &unknown):
		return "unknown"
	default:
		return "failed"
	}
}

func (m *TransactionManager) run(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, m.db.config.TransactionTimeout)
	defer cancel()
	tx, err := m.db.pool.Begin(ctx)
	if err != nil {
		return err
	}
	// After a commit this does nothing. Where it fails, the connection is closed, and the server rolls back.
	defer func() { _ = m.rollback(ctx, tx) }()
	if err := fn(ctx, tx); err != nil {
		return err
	}
	return m.commit(ctx, tx)
}

// commit calls every failure unknown but those that are certainly none: the server's own answer, and those before
// anything was sent. pgconn.SafeToRetry is of no use here: it also calls a connection safe that broke while the answer
// was awaited.
func (m *TransactionManager) commit(ctx context.Context, tx pgx.Tx) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if tx.Conn().IsClosed() {
		return errConnectionLost
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.db.config.StatementTimeout)
	defer cancel()
	err := tx.Commit(ctx)
	if err == nil || errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	if _, answered := serverError(err); answered {
		return err
	}
	return &CommitUnknownError{Err: err}
}

var errConnectionLost = errors.New("timescale: the connection was lost before the commit")

func (m *TransactionManager) rollback(ctx context.Context, tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.db.config.ConnectTimeout)
	defer cancel()
	return tx.Rollback(ctx)
}
