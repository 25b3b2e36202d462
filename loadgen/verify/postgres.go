package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
)

const binaryFormat = 1

// postgresEpoch is what the wire format of timestamptz counts from, in Unix microseconds.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

const recordsQuery = `SELECT event_id, ts_unix_nano, version, payload, content_type, attributes::text, tenant_id, endpoint_id, lsn, ts
FROM ingestor.records`

// Postgres judges the table ingestor.records of a database against ledgers, in the way of Parquet. All rows of the table are
// judged, whichever log they came from.
func Postgres(ctx context.Context, dsn string, ledgers ...string) (*Report, error) {
	e, err := expect(ledger.Records, ledgers)
	if err != nil {
		return nil, err
	}
	c := &checker{expectation: e, examples: newExamples()}
	err = query(ctx, dsn, recordsQuery, nil, func(v [][]byte) error {
		r := row{
			eventID: v[0], timestampUnixNano: bigint(v[1]), version: bigint(v[2]), payload: v[3], contentType: v[4],
			attributes: v[5], tenant: v[6], endpoint: v[7], lsn: bigint(v[8]),
		}
		c.check(&r)
		if !sameTime(v[9], r.timestampUnixNano) {
			c.report.Corrupt++
			c.examples.add(Example{Fault: "corrupt", LSN: uint64(r.lsn), Detail: "ts and ts_unix_nano differ"})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	report := &Report{Source: "postgres"}
	report.add(&c.report)
	e.conclude(report, c.examples)
	report.Examples = c.examples.list
	return report, nil
}

func bigint(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

// sameTime reports whether a timestamptz in wire format is a time in nanoseconds, rounded down to microseconds.
func sameTime(timestamptz []byte, unixNano int64) bool {
	return bigint(timestamptz)+postgresEpoch == unixNano/1000
}

// query calls fn with each row in PostgreSQL's binary format. The values are valid during the call.
func query(ctx context.Context, dsn, sql string, arguments []any, fn func(values [][]byte) error) (err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	rows, err := conn.Query(ctx, sql, append([]any{pgx.QueryResultFormats{binaryFormat}}, arguments...)...)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.RawValues()); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

// undefinedTable is the SQLSTATE of a table that does not exist.
const undefinedTable = "42P01"

// Checkpoints returns how far the database says it has come with each log, by the log's identity. A database that no server has set up yet
// says nothing.
func Checkpoints(ctx context.Context, dsn string) (map[[16]byte]uint64, error) {
	flushed := make(map[[16]byte]uint64)
	err := query(ctx, dsn, "SELECT wal_id, flushed_lsn FROM ingestor.sink_checkpoints", nil, func(v [][]byte) error {
		flushed[[16]byte(v[0])] = uint64(bigint(v[1]))
		return nil
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == undefinedTable {
		return flushed, nil
	}
	return flushed, err
}

const metricsQuery = `SELECT value, ts_unix_nano, tenant_id, service, instance, name, type, unit, labels::text, ts
FROM ingestor.metrics WHERE service = ANY($1)`

// gauge is how the table stores the type of the load generator's metrics.
const gauge = 1

// Metrics judges the table ingestor.metrics against the ledgers of metrics runs. Rows of other services are not looked at. The metrics
// of a request are written by one transaction: a request that is stored in part is a fault, also one without an answer.
func Metrics(ctx context.Context, dsn string, ledgers ...string) (*Report, error) {
	e, err := expect(ledger.Metrics, ledgers)
	if err != nil {
		return nil, err
	}
	var services []string
	for _, r := range e.runs {
		services = append(services, r.header.Service)
	}
	c := &checker{expectation: e, examples: newExamples()}
	err = query(ctx, dsn, metricsQuery, []any{services}, func(v [][]byte) error {
		c.checkMetric(v)
		return nil
	})
	if err != nil {
		return nil, err
	}
	report := &Report{Source: "postgres metrics"}
	report.add(&c.report)
	e.conclude(report, c.examples)
	report.Examples = c.examples.list
	return report, nil
}

// checkMetric judges one row of metricsQuery.
func (c *checker) checkMetric(v [][]byte) {
	c.report.Rows++
	r := row{tenant: v[2], endpoint: v[3]} // for examples
	value := math.Float64frombits(binary.BigEndian.Uint64(v[0]))
	identity, ok := record.ParseMetricValue(value)
	if !ok {
		c.unexpected(&r, fmt.Sprintf("value %v was not made by the load generator", value))
		return
	}
	s, ok := c.expectation.find(identity, func(p *producer, _ *ledger.Batch) bool {
		return p.run.header.Service == string(v[3])
	})
	if !ok || s.State == ledger.Absent {
		c.unexpected(&r, fmt.Sprintf("value %v was never sent, or refused", value))
		return
	}
	if c.expectation.mark(&s, identity.Index) {
		c.fault("duplicate", &c.report.Duplicate, &r, &s, identity.Index, "")
	}
	want := record.MetricOf(s.record().Identity(identity.Index))
	labels := record.AppendAttributesJSON(nil, []record.Attribute{{Key: want.LabelKey, Value: want.LabelValue}})
	same := bigint(v[1]) == want.TimestampUnixNano && sameTime(v[9], want.TimestampUnixNano) &&
		string(v[2]) == s.run.header.Tenants[s.Tenant] &&
		string(v[4]) == record.MetricInstance(s.number) && string(v[5]) == want.Name &&
		binary.BigEndian.Uint16(v[6]) == gauge && string(v[7]) == want.Unit && sameJSON(v[8], labels)
	if !same {
		c.fault("corrupt", &c.report.Corrupt, &r, &s, identity.Index, fmt.Sprintf("columns are %q", v[1:9]))
	}
}
