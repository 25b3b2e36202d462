package timescale

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// CommitUnknownError says that the connection was lost between COMMIT and its answer: the transaction may have
// committed or not. Who gets it must ask the checkpoint row.
type CommitUnknownError struct{ Err error }

func (e *CommitUnknownError) Error() string {
	return fmt.Sprintf("timescale: the outcome of the commit is unknown: %v", e.Err)
}

func (e *CommitUnknownError) Unwrap() error { return e.Err }

// FencedError says that another server has claimed the log's checkpoint: this one must write no more.
type FencedError struct {
	// OwnEpoch is what this server claimed, StoredEpoch what the row holds now; 0 where the row is gone.
	OwnEpoch, StoredEpoch int64
}

func (e *FencedError) Error() string {
	if e.StoredEpoch == 0 {
		return fmt.Sprintf("timescale: the checkpoint row that was claimed with epoch %d is gone", e.OwnEpoch)
	}
	return fmt.Sprintf("timescale: fenced: another server owns the log's checkpoint (epoch %d, ours is %d)",
		e.StoredEpoch, e.OwnEpoch)
}

// Fatal returns true: the server must stop.
func (e *FencedError) Fatal() bool { return true }

// ConflictError says that the checkpoint is not where the caller expected it, and that nothing was stored. Ask Flushed.
type ConflictError struct{ ExpectedLSN, StoredLSN uint64 }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("timescale: the checkpoint is at LSN %d, not at %d as expected", e.StoredLSN, e.ExpectedLSN)
}

// InvariantError says that what was handed over contradicts itself: a gap in the log, bytes that were valid once and
// are no more. Trying again cannot help.
type InvariantError struct{ Err error }

func (e *InvariantError) Error() string { return "timescale: " + e.Err.Error() }

func (e *InvariantError) Unwrap() error { return e.Err }

// Fatal returns true: the server must stop.
func (e *InvariantError) Fatal() bool { return true }

// serverError returns the error that the server itself has answered with, and left the connection usable after.
func serverError(err error) (*pgconn.PgError, bool) {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return nil, false
	}
	severity := pgErr.SeverityUnlocalized
	if severity == "" {
		severity = pgErr.Severity
	}
	return pgErr, severity == "ERROR"
}

// SQLSTATEs that the package acts on.
const (
	stateCheckViolation      = "23514"
	stateLockNotAvailable    = "55P03"
	stateBadCopyFormat       = "22P04" // a bug of ours, not of the row
	stateProgramLimit        = "54000"
	stateRaisedException     = "P0001"
	classDataException       = "22"
	classIntegrityConstraint = "23"
)

// refusedForContent tells whether the server refused a row for what it holds, so that trying again is of no use.
func refusedForContent(err error) (*pgconn.PgError, bool) {
	pgErr, ok := serverError(err)
	if !ok || pgErr.Code == stateBadCopyFormat {
		return nil, false
	}
	content := strings.HasPrefix(pgErr.Code, classDataException) || strings.HasPrefix(pgErr.Code, classIntegrityConstraint) ||
		pgErr.Code == stateProgramLimit || pgErr.Code == stateRaisedException
	return pgErr, content
}
