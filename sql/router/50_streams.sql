-- Calls about one stream, or one partition, go to its owner.

-- Columns as those of the store's views and tables of these names.
CREATE TYPE allsource.events AS (
    "position"   int8,
    stream_id    text COLLATE "C",
    version      int8,
    tenant_id    text COLLATE "C",
    event_type   text COLLATE "C",
    entity_id    text COLLATE "C",
    payload      jsonb,
    metadata     jsonb,
    "timestamp"  timestamptz,
    event_id     uuid,
    partition_id int4
);
COMMENT ON TYPE allsource.events IS 'an event, as the store''s view of this name has it';

CREATE TYPE allsource.event_streams AS (
    stream_no       int8,
    current_version int8,
    watermark       int8,
    created_at      timestamptz,
    updated_at      timestamptz,
    settled_batch   int8,
    partition_id    int4,
    settled_events  int4,
    tenant_id       text COLLATE "C",
    stream_id       text COLLATE "C",
    entity_id       text COLLATE "C"
);
COMMENT ON TYPE allsource.event_streams IS 'a stream, as the store''s table of this name has it';

CREATE FUNCTION allsource.router_has_ids(event_ids uuid[], events int4) RETURNS bool
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN event_ids IS NOT NULL AND cardinality(event_ids) = events AND array_position(event_ids, NULL) IS NULL;
COMMENT ON FUNCTION allsource.router_has_ids IS 'whether each of so many events has an id, so that the call can be repeated';

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
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT r.version FROM allsource.link_result(allsource.router_call(
        ARRAY[allsource.es_partition(stream_id)],
        format('SELECT allsource.es_append(%L, %L, %L, %L, %L, %L, %L, %L)',
               stream_id, event_type, payload, metadata, expected_version, tenant_id, entity_id, event_id),
        true, event_id IS NOT NULL)) AS r (version int8));
END
$$;
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
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT r.version FROM allsource.link_result(allsource.router_call(
        ARRAY[allsource.es_partition(stream_id)],
        format('SELECT allsource.es_append_many(%L, %L, %L, %L, %L, %L, %L, %L)',
               stream_id, event_types, payloads, metadata, expected_version, tenant_id, entity_id, event_ids),
        true, allsource.router_has_ids(event_ids, cardinality(event_types)))) AS r (version int8));
END
$$;
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
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT r.* FROM allsource.link_result(allsource.router_call(
        (SELECT array_agg(DISTINCT allsource.es_partition(s.name)) FROM unnest(stream_ids) AS s (name) WHERE s.name IS NOT NULL),
        format('SELECT * FROM allsource.es_append_batch(%L, %L, %L, %L, %L, %L, %L)',
               stream_ids, event_types, payloads, metadata, expected_versions, tenant_id, event_ids),
        true, allsource.router_has_ids(event_ids, cardinality(event_types))))
        AS r (stream_id text, partition_id int4, first_version int8, last_version int8, first_position int8);
END
$$;
COMMENT ON FUNCTION allsource.es_append_batch IS 'append events to many streams that one group owns, all or nothing; one row per stream, in the order of first appearance';

CREATE FUNCTION allsource.es_create_stream(
    stream_id text,
    tenant_id text DEFAULT 'default',
    entity_id text DEFAULT NULL
) RETURNS SETOF allsource.event_streams
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT r.* FROM allsource.link_result(allsource.router_call(
        ARRAY[allsource.es_partition(stream_id)],
        format('SELECT * FROM allsource.es_create_stream(%L, %L, %L)', stream_id, tenant_id, entity_id),
        true, true))
        AS r (stream_no int8, current_version int8, watermark int8, created_at timestamptz, updated_at timestamptz,
              settled_batch int8, partition_id int4, settled_events int4, tenant_id text, stream_id text, entity_id text);
END
$$;
COMMENT ON FUNCTION allsource.es_create_stream IS 'the row of a stream, which is created if it does not exist';

CREATE FUNCTION allsource.es_read(
    stream_id    text,
    from_version int8 DEFAULT NULL,
    max_count    int8 DEFAULT NULL,
    backward     bool DEFAULT false,
    tenant_id    text DEFAULT 'default'
) RETURNS SETOF allsource.events
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT r.* FROM allsource.link_result(allsource.router_call(
        ARRAY[allsource.es_partition(stream_id)],
        format('SELECT * FROM allsource.es_read(%L, %L, %L, %L, %L)', stream_id, from_version, max_count, backward, tenant_id),
        false, true))
        AS r ("position" int8, stream_id text, version int8, tenant_id text, event_type text, entity_id text,
              payload jsonb, metadata jsonb, "timestamp" timestamptz, event_id uuid, partition_id int4);
END
$$;
COMMENT ON FUNCTION allsource.es_read IS 'events of one stream in the order of their versions; from_version NULL: from the first, or backward from the last';

CREATE FUNCTION allsource.es_stream(
    stream_id text,
    tenant_id text DEFAULT 'default'
) RETURNS SETOF allsource.event_streams
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT r.* FROM allsource.link_result(allsource.router_call(
        ARRAY[allsource.es_partition(stream_id)],
        format('SELECT * FROM allsource.es_stream(%L, %L)', stream_id, tenant_id),
        false, true))
        AS r (stream_no int8, current_version int8, watermark int8, created_at timestamptz, updated_at timestamptz,
              settled_batch int8, partition_id int4, settled_events int4, tenant_id text, stream_id text, entity_id text);
END
$$;
COMMENT ON FUNCTION allsource.es_stream IS 'the row of a stream, or no row';

CREATE FUNCTION allsource.es_streams(
    partition_id    int4,
    after_stream_id text DEFAULT NULL,
    max_count       int8 DEFAULT 1000
) RETURNS SETOF allsource.event_streams
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT r.* FROM allsource.link_result(allsource.router_call(
        ARRAY[partition_id],
        format('SELECT * FROM allsource.es_streams(%L, %L, %L)', partition_id, after_stream_id, max_count),
        false, true))
        AS r (stream_no int8, current_version int8, watermark int8, created_at timestamptz, updated_at timestamptz,
              settled_batch int8, partition_id int4, settled_events int4, tenant_id text, stream_id text, entity_id text);
END
$$;
COMMENT ON FUNCTION allsource.es_streams IS 'the streams of a partition by name, byte by byte; streams of one name and several tenants are never split between pages';

CREATE FUNCTION allsource.es_stream_watermark(
    stream_id text,
    tenant_id text DEFAULT 'default'
) RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT r.watermark FROM allsource.link_result(allsource.router_call(
        ARRAY[allsource.es_partition(stream_id)],
        format('SELECT allsource.es_stream_watermark(%L, %L)', stream_id, tenant_id),
        false, true)) AS r (watermark int8));
END
$$;
COMMENT ON FUNCTION allsource.es_stream_watermark IS 'highest version up to which all events of a stream are settled, without a gap; NULL if there is no such stream';

CREATE FUNCTION allsource.es_verify_gapless(
    stream_id text,
    tenant_id text DEFAULT 'default'
) RETURNS bool
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT r.is_gapless FROM allsource.link_result(allsource.router_call(
        ARRAY[allsource.es_partition(stream_id)],
        format('SELECT allsource.es_verify_gapless(%L, %L)', stream_id, tenant_id),
        false, true)) AS r (is_gapless bool));
END
$$;
COMMENT ON FUNCTION allsource.es_verify_gapless IS 'whether versions 1 to the watermark are there, each once; NULL if there is no such stream';
