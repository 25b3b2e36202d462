-- Compression of chunks older than a week, where the server has it (TimescaleDB's community licence). Without it the tables
-- work the same, only larger.

-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE
    extension_schema text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                              WHERE e.extname = 'timescaledb');
BEGIN
    IF extension_schema IS NULL OR (SELECT relkind FROM pg_class WHERE oid = 'ingestor.records'::regclass) <> 'r' THEN
        RETURN;
    END IF;
    ALTER TABLE ingestor.records SET (timescaledb.compress,
        timescaledb.compress_segmentby = 'tenant_id, endpoint_id', timescaledb.compress_orderby = 'ts, lsn');
    ALTER TABLE ingestor.metrics SET (timescaledb.compress,
        timescaledb.compress_segmentby = 'tenant_id, service, name', timescaledb.compress_orderby = 'ts');
    EXECUTE format('SELECT %I.add_compression_policy(%L, interval ''7 days''), %I.add_compression_policy(%L, interval ''7 days'')',
                   extension_schema, 'ingestor.records', extension_schema, 'ingestor.metrics');
EXCEPTION
    WHEN feature_not_supported OR undefined_function OR invalid_parameter_value OR syntax_error OR internal_error THEN
        RAISE NOTICE 'compression is not set up: %', SQLERRM;
END
$$;
-- +goose StatementEnd
