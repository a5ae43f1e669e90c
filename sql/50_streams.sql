-- Streams and partitions.

CREATE FUNCTION allsource.es_stream(
    stream_id text,
    tenant_id text DEFAULT 'default'
) RETURNS SETOF allsource.event_streams
LANGUAGE c STABLE PARALLEL SAFE COST 10 ROWS 1
AS 'MODULE_PATHNAME', 'es_stream';

COMMENT ON FUNCTION allsource.es_stream IS 'the row of a stream, or no row';

CREATE FUNCTION allsource.es_create_stream(
    stream_id text,
    tenant_id text DEFAULT 'default',
    entity_id text DEFAULT NULL
) RETURNS SETOF allsource.event_streams
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000 ROWS 1
AS 'MODULE_PATHNAME', 'es_create_stream';

COMMENT ON FUNCTION allsource.es_create_stream IS 'the row of a stream, which is created if it does not exist';

CREATE FUNCTION allsource.es_streams(
    partition_id    int4,
    after_stream_id text DEFAULT NULL,
    max_count       int8 DEFAULT 1000
) RETURNS SETOF allsource.event_streams
LANGUAGE c STABLE PARALLEL SAFE COST 100 ROWS 1000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'es_streams';

COMMENT ON FUNCTION allsource.es_streams IS 'the streams of a partition by name, byte by byte; streams of one name and several tenants are never split between pages';

CREATE FUNCTION allsource.es_stream_watermark(
    stream_id text,
    tenant_id text DEFAULT 'default'
) RETURNS int8
LANGUAGE c STABLE PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'es_stream_watermark';

COMMENT ON FUNCTION allsource.es_stream_watermark IS 'highest version up to which all events of a stream are settled, without a gap; NULL if there is no such stream';

CREATE FUNCTION allsource.es_partition(stream_id text) RETURNS int4
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'es_partition';

COMMENT ON FUNCTION allsource.es_partition IS 'the partition of a stream, 0 to 31: XXH3-64 of the name''s bytes, modulo 32';

CREATE FUNCTION allsource.es_partition_stats() RETURNS SETOF allsource.partition_stats
LANGUAGE sql STABLE PARALLEL SAFE ROWS 32
BEGIN ATOMIC
    SELECT s.* FROM allsource.partition_stats s;
END;

COMMENT ON FUNCTION allsource.es_partition_stats IS 'the rows of the view partition_stats';
