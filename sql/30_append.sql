-- Writing: synchronous and transactional.

CREATE FUNCTION allsource.es_append(
    stream_id        pg_catalog.text,
    event_type       pg_catalog.text,
    payload          pg_catalog.jsonb,
    metadata         pg_catalog.jsonb DEFAULT NULL,
    expected_version pg_catalog.int8 DEFAULT NULL,
    tenant_id        pg_catalog.text DEFAULT 'default',
    entity_id        pg_catalog.text DEFAULT NULL,
    event_id         pg_catalog.uuid DEFAULT NULL
) RETURNS pg_catalog.int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_append';

COMMENT ON FUNCTION allsource.es_append IS 'append one event to a stream and return its version; expected_version: NULL any, 0 no events yet, n exactly n, -1 the stream exists';

CREATE FUNCTION allsource.es_append_many(
    stream_id        pg_catalog.text,
    event_types      pg_catalog.text[],
    payloads         pg_catalog.jsonb[],
    metadata         pg_catalog.jsonb[] DEFAULT NULL,
    expected_version pg_catalog.int8 DEFAULT NULL,
    tenant_id        pg_catalog.text DEFAULT 'default',
    entity_id        pg_catalog.text DEFAULT NULL,
    event_ids        pg_catalog.uuid[] DEFAULT NULL
) RETURNS pg_catalog.int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_append_many';

COMMENT ON FUNCTION allsource.es_append_many IS 'append events to one stream, in the order of the arrays, and return the last version written';

CREATE FUNCTION allsource.es_append_batch(
    stream_ids        pg_catalog.text[],
    event_types       pg_catalog.text[],
    payloads          pg_catalog.jsonb[],
    metadata          pg_catalog.jsonb[] DEFAULT NULL,
    expected_versions pg_catalog.int8[] DEFAULT NULL,
    tenant_id         pg_catalog.text DEFAULT 'default',
    event_ids         pg_catalog.uuid[] DEFAULT NULL
) RETURNS TABLE (
    stream_id      pg_catalog.text,
    partition_id   pg_catalog.int4,
    first_version  pg_catalog.int8,
    last_version   pg_catalog.int8,
    first_position pg_catalog.int8
)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000 ROWS 100
AS 'MODULE_PATHNAME', 'es_append_batch';

COMMENT ON FUNCTION allsource.es_append_batch IS 'append events to many streams, all or nothing; one row per stream, in the order of first appearance';

CREATE FUNCTION allsource.es_any() RETURNS pg_catalog.int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN NULL::pg_catalog.int8;
COMMENT ON FUNCTION allsource.es_any IS 'expected_version: whatever the stream''s version is';

CREATE FUNCTION allsource.es_no_stream() RETURNS pg_catalog.int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 0::pg_catalog.int8;
COMMENT ON FUNCTION allsource.es_no_stream IS 'expected_version: the stream has no events';

CREATE FUNCTION allsource.es_stream_exists() RETURNS pg_catalog.int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (-1)::pg_catalog.int8;
COMMENT ON FUNCTION allsource.es_stream_exists IS 'expected_version: the stream exists';
