-- The positions of a log for which this database has no records and never will: lost and reported by wal repair, or left out because the
-- database was added when the log did not hold them any more.

-- +goose Up
CREATE TABLE ingestor.gaps (
    at        timestamptz NOT NULL DEFAULT now(),
    wal_id    uuid        NOT NULL,
    first_lsn bigint      NOT NULL,
    last_lsn  bigint      NOT NULL
);
