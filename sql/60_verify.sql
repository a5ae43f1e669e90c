-- Checking what is stored.

CREATE FUNCTION allsource.es_verify_gapless(
    stream_id text,
    tenant_id text DEFAULT 'default'
) RETURNS bool
LANGUAGE c STABLE PARALLEL SAFE COST 100
AS 'MODULE_PATHNAME', 'es_verify_gapless';

COMMENT ON FUNCTION allsource.es_verify_gapless IS 'whether versions 1 to the watermark are there, each once; NULL if there is no such stream';

CREATE FUNCTION allsource.es_run_checksum(run allsource.event_log) RETURNS int4
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'es_run_checksum';

COMMENT ON FUNCTION allsource.es_run_checksum IS 'the CRC-32C that a run of event_log should have, as a signed integer';

CREATE FUNCTION allsource.es_verify(
    partition_id int4 DEFAULT NULL,
    stream_id    text DEFAULT NULL
) RETURNS TABLE (
    tenant_id    text,
    stream_id    text,
    kind         text,
    "position"   int8,
    version      int8,
    detail       text
)
LANGUAGE c STABLE PARALLEL SAFE COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
-- Its queries are over all leaves, and would be compiled for seconds however little there is.
SET jit = off
AS 'MODULE_PATHNAME', 'es_verify';

COMMENT ON FUNCTION allsource.es_verify IS 'a row for each fault found in the store, a partition or a stream: gap, overlap, position out of order, position taken twice, checksum, orphan, head differs from log, misplaced, event id, hot batch; no row if there is none';
