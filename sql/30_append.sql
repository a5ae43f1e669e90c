-- Writing: synchronous and transactional.

CREATE FUNCTION allsource.es_append(
    stream_id        text,
    event_type       text,
    payload          jsonb,
    metadata         jsonb DEFAULT NULL,
    expected_version int8 DEFAULT NULL,
    tenant_id        text DEFAULT 'default',
    entity_id        text DEFAULT NULL,
    event_id         uuid DEFAULT NULL
) RETURNS int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_append';

COMMENT ON FUNCTION allsource.es_append IS 'append one event to a stream and return its version; expected_version: NULL any, 0 no events yet, n exactly n, -1 the stream exists';

CREATE FUNCTION allsource.es_append_many(
    stream_id        text,
    event_types      text[],
    payloads         jsonb[],
    metadata         jsonb[] DEFAULT NULL,
    expected_version int8 DEFAULT NULL,
    tenant_id        text DEFAULT 'default',
    entity_id        text DEFAULT NULL,
    event_ids        uuid[] DEFAULT NULL
) RETURNS int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_append_many';

COMMENT ON FUNCTION allsource.es_append_many IS 'append events to one stream, in the order of the arrays, and return the last version written';

CREATE FUNCTION allsource.es_append_batch(
    stream_ids        text[],
    event_types       text[],
    payloads          jsonb[],
    metadata          jsonb[] DEFAULT NULL,
    expected_versions int8[] DEFAULT NULL,
    tenant_id         text DEFAULT 'default',
    event_ids         uuid[] DEFAULT NULL
) RETURNS TABLE (
    stream_id      text,
    partition_id   int4,
    first_version  int8,
    last_version   int8,
    first_position int8
)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000 ROWS 100
AS 'MODULE_PATHNAME', 'es_append_batch';

COMMENT ON FUNCTION allsource.es_append_batch IS 'append events to many streams, all or nothing; one row per stream, in the order of first appearance';

CREATE FUNCTION allsource.es_any() RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN NULL::int8;
COMMENT ON FUNCTION allsource.es_any IS 'expected_version: whatever the stream''s version is';

CREATE FUNCTION allsource.es_no_stream() RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 0::int8;
COMMENT ON FUNCTION allsource.es_no_stream IS 'expected_version: the stream has no events';

CREATE FUNCTION allsource.es_stream_exists() RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (-1)::int8;
COMMENT ON FUNCTION allsource.es_stream_exists IS 'expected_version: the stream exists';
