package timescale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// DeadLetter is a row that the database refused for its content. Body is what may be changed before a replay; its form depends
// on Source.
type DeadLetter struct {
	ID     int64           `json:"id"`
	At     time.Time       `json:"at"`
	Source string          `json:"source"` // records or metrics
	Reason string          `json:"reason"`
	WALID  *uuid.UUID      `json:"wal_id,omitempty"` // records only
	LSN    *int64          `json:"lsn,omitempty"`    // records only
	Body   json.RawMessage `json:"body"`
}

// ErrNoDeadLetter says that there is none with this ID, or no longer.
var ErrNoDeadLetter = errors.New("no such dead letter")

const selectDeadLetters = `SELECT id, at, source, reason, wal_id, lsn, body FROM ingestor.dead_letters`

// DeadLetters calls visit for each dead letter with an ID of at least from, in the order of their IDs, limit at most.
func (db *Database) DeadLetters(ctx context.Context, from int64, limit int, visit func(DeadLetter) error) error {
	if err := db.Prepare(ctx); err != nil {
		return err
	}
	rows, err := db.pool.Query(ctx, selectDeadLetters+` WHERE id >= $1 ORDER BY id LIMIT $2`, from, limit)
	if err != nil {
		return fmt.Errorf("timescale: list dead letters: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		letter, err := scanDeadLetter(rows)
		if err != nil {
			return fmt.Errorf("timescale: list dead letters: %w", err)
		}
		if err := visit(letter); err != nil {
			return err
		}
	}
	return rows.Err()
}

// DeadLetter returns one; ErrNoDeadLetter where it does not exist.
func (db *Database) DeadLetter(ctx context.Context, id int64) (DeadLetter, error) {
	if err := db.Prepare(ctx); err != nil {
		return DeadLetter{}, err
	}
	letter, err := scanDeadLetter(db.pool.QueryRow(ctx, selectDeadLetters+` WHERE id = $1`, id))
	return letter, notFound(id, err)
}

func scanDeadLetter(row pgx.Row) (l DeadLetter, err error) {
	var wal *[16]byte
	var body []byte
	err = row.Scan(&l.ID, &l.At, &l.Source, &l.Reason, &wal, &l.LSN, &body)
	l.At, l.Body, l.WALID = l.At.UTC(), body, (*uuid.UUID)(wal)
	return l, err
}

func notFound(id int64, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: %d", ErrNoDeadLetter, id)
	}
	return err
}

// Replay stores the row that body describes and removes the dead letter, both or neither: replayed twice, it is stored once. Where the
// database refuses the row again, the dead letter stays, with the new body, and refused says why.
//
// A record keeps its position in the log, which body may not change: (wal_id, lsn) is what identifies it.
func (db *Database) Replay(ctx context.Context, id int64, body []byte) (refused string, err error) {
	letter, err := db.DeadLetter(ctx, id)
	if err != nil {
		return "", err
	}
	row, err := parseReplay(letter, body)
	if err != nil {
		return "", fmt.Errorf("dead letter %d: %w", id, err)
	}
	if err := db.partitions.ensure(ctx, row.table, row.timeUnixNano, row.timeUnixNano); err != nil {
		return "", err
	}
	err = NewTransactionManager(db).Run(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// The lock decides between two replays of one letter.
		err := tx.QueryRow(ctx, `SELECT id FROM ingestor.dead_letters WHERE id = $1 FOR UPDATE`, id).Scan(&id)
		if err != nil {
			return notFound(id, err)
		}
		err = pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
			_, err := savepoint.Exec(ctx, row.insert, row.values...)
			return err
		})
		if refusal, isRefusal := refusedForContent(err); isRefusal {
			refused = refusalReason(refusal)
			_, err = tx.Exec(ctx, `UPDATE ingestor.dead_letters SET reason = $1, body = $2 WHERE id = $3`, refused, body, id)
			return err
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM ingestor.dead_letters WHERE id = $1`, id)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("replay dead letter %d: %w", id, err)
	}
	return refused, nil
}

// Discard removes a dead letter for good.
func (db *Database) Discard(ctx context.Context, id int64) error {
	if err := db.Prepare(ctx); err != nil {
		return err
	}
	tag, err := db.pool.Exec(ctx, `DELETE FROM ingestor.dead_letters WHERE id = $1`, id)
	if err == nil && tag.RowsAffected() == 0 {
		return fmt.Errorf("%w: %d", ErrNoDeadLetter, id)
	}
	return err
}

// replayRow is a row to be inserted.
type replayRow struct {
	table        string
	timeUnixNano int64
	insert       string
	values       []any
}

func parseReplay(letter DeadLetter, body []byte) (replayRow, error) {
	switch letter.Source {
	case "records":
		return parseRecord(letter, body)
	case "metrics":
		return parseMetric(body)
	}
	return replayRow{}, fmt.Errorf("its source %q is unknown to this program", letter.Source)
}

func parseRecord(letter DeadLetter, body []byte) (replayRow, error) {
	var r deadRecord
	if err := decodeStrictly(body, &r); err != nil {
		return replayRow{}, err
	}
	if letter.WALID == nil || letter.LSN == nil || r.LSN != uint64(*letter.LSN) {
		return replayRow{}, errors.New("its position in the log cannot be changed")
	}
	attributes, err := object(r.Attributes)
	if err != nil {
		return replayRow{}, fmt.Errorf("attributes: %w", err)
	}
	if r.Payload == nil {
		r.Payload = []byte{}
	}
	return replayRow{
		table: "records", timeUnixNano: r.TimestampUnixNano,
		insert: `INSERT INTO ingestor.records (ts, ts_unix_nano, tenant_id, endpoint_id, event_id, version, content_type, payload,
			attributes, lsn, wal_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		values: []any{
			microsecond(r.TimestampUnixNano), r.TimestampUnixNano, r.TenantID, r.EndpointID, [16]byte(r.EventID), int64(r.Version),
			r.ContentType, r.Payload, attributes, *letter.LSN, [16]byte(*letter.WALID),
		},
	}, nil
}

func parseMetric(body []byte) (replayRow, error) {
	var m deadMetric
	if err := decodeStrictly(body, &m); err != nil {
		return replayRow{}, err
	}
	value, err := strconv.ParseFloat(m.Value, 64)
	if err != nil {
		return replayRow{}, fmt.Errorf("value: %w", err)
	}
	if m.Type != Gauge && m.Type != Counter {
		return replayRow{}, fmt.Errorf("type %d is neither a gauge (1) nor a counter (2)", m.Type)
	}
	labels, err := object(m.Labels)
	if err != nil {
		return replayRow{}, fmt.Errorf("labels: %w", err)
	}
	return replayRow{
		table: "metrics", timeUnixNano: m.TimestampUnixNano,
		insert: `INSERT INTO ingestor.metrics (ts, ts_unix_nano, tenant_id, service, instance, name, type, unit, value, labels)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		values: []any{
			microsecond(m.TimestampUnixNano), m.TimestampUnixNano, m.TenantID, m.Service, m.Instance, m.Name, int16(m.Type), m.Unit,
			value, labels,
		},
	}, nil
}

// decodeStrictly refuses fields that it does not know, so that a misspelled correction is not lost.
func decodeStrictly(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// object returns what becomes the jsonb: nil for none.
func object(raw json.RawMessage) (*string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	text := string(raw)
	return &text, nil
}

// microsecond rounds down, as appendTime does.
func microsecond(unixNano int64) time.Time {
	micro := unixNano / 1000
	if unixNano%1000 < 0 {
		micro--
	}
	return time.UnixMicro(micro).UTC()
}
