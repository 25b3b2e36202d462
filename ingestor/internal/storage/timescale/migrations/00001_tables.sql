-- The tables. With TimescaleDB, records and metrics become hypertables; without, they are partitioned by range of ts, and the
-- server makes one partition for each day, with a default partition for what lies outside.

-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE
    extension_schema text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                              WHERE e.extname = 'timescaledb');
    partitioned text := CASE WHEN extension_schema IS NULL THEN ' PARTITION BY RANGE (ts)' ELSE '' END;
    name text;
BEGIN
    EXECUTE 'CREATE TABLE ingestor.records (
        ts           timestamptz NOT NULL, -- ts_unix_nano, rounded down to a microsecond
        ts_unix_nano bigint      NOT NULL,
        tenant_id    text        NOT NULL,
        endpoint_id  text        NOT NULL,
        event_id     uuid        NOT NULL,
        version      bigint      NOT NULL,
        content_type text        NOT NULL,
        payload      bytea       NOT NULL,
        attributes   jsonb,                -- NULL: none
        lsn          bigint      NOT NULL, -- position in the log wal_id
        wal_id       uuid        NOT NULL
    )' || partitioned;

    EXECUTE 'CREATE TABLE ingestor.metrics (
        ts           timestamptz      NOT NULL,
        ts_unix_nano bigint           NOT NULL,
        tenant_id    text             NOT NULL,
        service      text             NOT NULL,
        instance     text             NOT NULL,
        name         text             NOT NULL,
        type         smallint         NOT NULL, -- 1 gauge, 2 counter
        unit         text             NOT NULL,
        value        double precision NOT NULL,
        labels       jsonb                      -- NULL: none
    )' || partitioned;

    FOREACH name IN ARRAY ARRAY['records', 'metrics'] LOOP
        IF extension_schema IS NULL THEN
            EXECUTE format('CREATE TABLE ingestor.%I PARTITION OF ingestor.%I DEFAULT', name || '_default', name);
        ELSE
            EXECUTE format('SELECT %I.create_hypertable(%L, %L, chunk_time_interval => interval ''1 day'', '
                           'create_default_indexes => false)', extension_schema, 'ingestor.' || name, 'ts');
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- A block range index costs the writer next to nothing; a B-tree would halve the rate at which records come in.
CREATE INDEX records_ts_idx ON ingestor.records USING brin (ts);
CREATE INDEX metrics_series_idx ON ingestor.metrics (tenant_id, name, service, ts DESC);

-- One row for each log that is flushed into this database. It moves in the transaction that stores the records.
CREATE TABLE ingestor.sink_checkpoints (
    wal_id      uuid        PRIMARY KEY,
    flushed_lsn bigint      NOT NULL,
    owner_epoch bigint      NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- One row for each running worker of the metrics path: the number of its last batch.
CREATE TABLE ingestor.metric_checkpoints (
    writer_id  uuid        PRIMARY KEY,
    batch      bigint      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Rows that PostgreSQL refused for their content. body is the whole row as JSON in UTF-8, and names are bytea, because what was refused
-- may be the very text.
CREATE TABLE ingestor.dead_letters (
    at        timestamptz NOT NULL DEFAULT now(),
    source    text        NOT NULL CHECK (source IN ('records', 'metrics')),
    reason    text        NOT NULL,
    tenant_id bytea       NOT NULL,
    wal_id    uuid,
    lsn       bigint,
    event_id  uuid,
    body      bytea       NOT NULL
);
