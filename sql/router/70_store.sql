-- The whole store: all groups, asked side by side.

CREATE FUNCTION allsource.es_read_all(
    after_position int8 DEFAULT 0,
    max_count      int8 DEFAULT 1000,
    partition_ids  int4[] DEFAULT NULL,
    event_types    text[] DEFAULT NULL,
    tenant_id      text DEFAULT NULL
) RETURNS SETOF allsource.events
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a router has no single position'
          USING ERRCODE = 'object_not_in_prerequisite_state',
                DETAIL = 'Each group counts its own positions.',
                HINT = 'Use es_read_all_from, which takes a position for each partition; es_positions() gives those of now.';
END
$$;
COMMENT ON FUNCTION allsource.es_read_all IS 'is refused on a router: use es_read_all_from';

CREATE FUNCTION allsource.es_safe_position() RETURNS int8
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a router has no single position'
          USING ERRCODE = 'object_not_in_prerequisite_state',
                DETAIL = 'Each group counts its own positions.',
                HINT = 'Use es_positions().';
END
$$;
COMMENT ON FUNCTION allsource.es_safe_position IS 'is refused on a router: use es_positions';

-- Of each group the same number of events is taken, as far as it has them, so that a group with many does not keep
-- those of the others back. What is left out of a partition comes after what is taken.
CREATE FUNCTION allsource.es_read_all_from(
    after_positions int8[],
    max_count       int8 DEFAULT 1000,
    partition_ids   int4[] DEFAULT NULL,
    event_types     text[] DEFAULT NULL,
    tenant_id       text DEFAULT NULL
) RETURNS SETOF allsource.events
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 1000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    begun      CONSTANT timestamptz := clock_timestamp();
    timeout_ms CONSTANT int4 := allsource.router_timeout_ms();
    wanted     int4[] := partition_ids;
    owners     int4[];
    asked      record;
    names      text[];
BEGIN
    -- Wrong arguments are for a group to complain about.
    IF cardinality(after_positions) = 32 THEN
        SELECT COALESCE(array_agg(p.id), '{}') INTO wanted FROM generate_series(0, 31) AS p (id)
         WHERE (partition_ids IS NULL OR p.id = ANY (partition_ids)) AND after_positions[p.id + 1] IS NOT NULL;
    END IF;
    IF cardinality(after_positions) IS DISTINCT FROM 32 OR max_count <= 0 OR wanted = '{}'
       OR NOT partition_ids <@ (SELECT array_agg(p.id) FROM generate_series(0, 31) AS p (id))
       OR array_position(partition_ids, NULL) IS NOT NULL THEN
        names := ARRAY[allsource.router_call(ARRAY[NULL::int4],
            format('SELECT * FROM allsource.es_read_all_from(%L, %L, %L, %L, %L)',
                   after_positions, max_count, partition_ids, event_types, tenant_id), false, true)];
    END IF;
    WHILE names IS NULL LOOP
        SELECT s.group_ids, s.shares INTO asked FROM allsource.router_shares(wanted, owners) AS s;
        names := allsource.router_ask(asked.group_ids,
            (SELECT array_agg(format('SELECT * FROM allsource.es_read_all_from(%L, %L, %L, %L, %L)',
                                     after_positions, max_count, s.share, event_types, tenant_id) ORDER BY s.i)
               FROM unnest(asked.shares) WITH ORDINALITY AS s (share, i)),
            timeout_ms, begun);
        IF names IS NULL THEN
            PERFORM allsource.router_rest();
            owners := allsource.router_learn(false);
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT e."position", e.stream_id, e.version, e.tenant_id, e.event_type, e.entity_id, e.payload, e.metadata, e."timestamp",
           e.event_id, e.partition_id
      FROM (SELECT r.*, row_number() OVER (PARTITION BY n.i ORDER BY r."position") AS place, n.i
              FROM unnest(names) WITH ORDINALITY AS n (name, i)
             CROSS JOIN LATERAL allsource.link_result(n.name)
                AS r ("position" int8, stream_id text, version int8, tenant_id text, event_type text, entity_id text,
                      payload jsonb, metadata jsonb, "timestamp" timestamptz, event_id uuid, partition_id int4)
             ORDER BY place, n.i
             LIMIT max_count) AS e
     ORDER BY e.partition_id, e."position";
END
$$;
COMMENT ON FUNCTION allsource.es_read_all_from IS 'events of all groups, above a position for each partition, NULL where it is not to be read; in the order of partitions and positions';

CREATE FUNCTION allsource.es_positions() RETURNS int8[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked     record;
    names     text[];
    positions int8[] := array_fill(NULL::int8, ARRAY[32]);
    given     int8[];
    i         int4;
    p         int4;
BEGIN
    SELECT s.group_ids, s.shares INTO asked FROM allsource.router_shares(NULL, NULL) AS s;
    names := allsource.router_ask(asked.group_ids, array_fill('SELECT allsource.es_positions()'::text, ARRAY[cardinality(asked.group_ids)]),
                                  allsource.router_timeout_ms());
    FOR i IN 1 .. cardinality(names) LOOP
        SELECT r.given INTO given FROM allsource.link_result(names[i]) AS r (given int8[]);
        FOREACH p IN ARRAY asked.shares[i]::int4[] LOOP
            positions[p + 1] := given[p + 1];
        END LOOP;
    END LOOP;
    RETURN positions;
END
$$;
COMMENT ON FUNCTION allsource.es_positions IS 'the present position of each partition, to begin with in es_read_all_from';

CREATE FUNCTION allsource.router_partition_stats() RETURNS TABLE (
    partition_id     int4,
    stream_count     int8,
    total_events     int8,
    unsettled_events int8,
    last_position    int8,
    last_append_at   timestamptz,
    size_bytes       int8
)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 32
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked record;
    names text[];
BEGIN
    SELECT s.group_ids, s.shares INTO asked FROM allsource.router_shares(NULL, NULL) AS s;
    names := allsource.router_ask(asked.group_ids,
        (SELECT array_agg(format('SELECT s.partition_id, s.stream_count, s.total_events, s.unsettled_events, s.last_position, s.last_append_at, '
                                 's.size_bytes FROM allsource.partition_stats s WHERE s.partition_id = ANY (%L)', s.share) ORDER BY s.i)
           FROM unnest(asked.shares) WITH ORDINALITY AS s (share, i)),
        allsource.router_timeout_ms());
    RETURN QUERY
    SELECT r.* FROM unnest(names) AS n (name)
     CROSS JOIN LATERAL allsource.link_result(n.name)
        AS r (partition_id int4, stream_count int8, total_events int8, unsettled_events int8, last_position int8,
              last_append_at timestamptz, size_bytes int8)
     ORDER BY r.partition_id;
END
$$;
COMMENT ON FUNCTION allsource.router_partition_stats IS 'the rows of the view partition_stats';

CREATE VIEW allsource.partition_stats WITH (security_invoker = true) AS
SELECT * FROM allsource.router_partition_stats();
COMMENT ON VIEW allsource.partition_stats IS 'always 32 rows: what each partition holds, as its owner counts it';

CREATE FUNCTION allsource.es_partition_stats() RETURNS SETOF allsource.partition_stats
LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 32
BEGIN ATOMIC
    SELECT s.* FROM allsource.partition_stats s;
END;
COMMENT ON FUNCTION allsource.es_partition_stats IS 'the rows of the view partition_stats';

CREATE TYPE allsource.router_fault AS (
    tenant_id  text,
    stream_id  text,
    kind       text,
    "position" int8,
    version    int8,
    detail     text
);
COMMENT ON TYPE allsource.router_fault IS 'a row of es_verify';

-- It may take as long as it takes: a verification of a large store must not be given up.
CREATE FUNCTION allsource.es_verify(
    partition_id int4 DEFAULT NULL,
    stream_id    text DEFAULT NULL
) RETURNS SETOF allsource.router_fault
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    query CONSTANT text := format('SELECT * FROM allsource.es_verify(%L, %L)', partition_id, stream_id);
    asked record;
    names text[];
BEGIN
    IF partition_id IS NULL AND stream_id IS NULL THEN
        names := allsource.router_ask_all(query, NULL);
    ELSE
        -- One question, to the owner, through the same door.
        SELECT s.group_ids INTO asked FROM allsource.router_shares(ARRAY[COALESCE(partition_id, allsource.es_partition(stream_id))], NULL) AS s;
        names := allsource.router_ask(COALESCE(asked.group_ids, (allsource.router_group_ids())[1:1]), ARRAY[query], NULL);
    END IF;
    RETURN QUERY
    SELECT r.* FROM unnest(names) AS n (name)
     CROSS JOIN LATERAL allsource.link_result(n.name)
        AS r (tenant_id text, stream_id text, kind text, "position" int8, version int8, detail text);
END
$$;
COMMENT ON FUNCTION allsource.es_verify IS 'a row for each fault found in all groups, or in a partition or a stream by its owner; no row if there is none';
