-- Bulk ingestion. Enqueueing is not part of a transaction on a store either, so it is not refused in one.

CREATE TYPE allsource.dead_letters AS (
    id           int8,
    failed_at    timestamptz,
    enqueued_at  timestamptz,
    queue_epoch  int8,
    queue_worker int4,
    queue_offset int8,
    sqlstate     text,
    reason       text,
    tenant_id    text COLLATE "C",
    stream_id    text COLLATE "C",
    entity_id    text COLLATE "C",
    event_type   text COLLATE "C",
    payload      jsonb,
    metadata     jsonb,
    event_id     uuid
);
COMMENT ON TYPE allsource.dead_letters IS 'a dead letter, as the store''s table of this name has it; id is that of its group, with the group before the last twelve digits';

CREATE FUNCTION allsource.es_enqueue(
    stream_id  text,
    event_type text,
    payload    jsonb,
    metadata   jsonb DEFAULT NULL,
    tenant_id  text DEFAULT 'default',
    entity_id  text DEFAULT NULL,
    event_id   uuid DEFAULT NULL,
    durable    bool DEFAULT false
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM allsource.link_result(allsource.router_call(
        ARRAY[allsource.es_partition(stream_id)],
        format('SELECT allsource.es_enqueue(%L, %L, %L, %L, %L, %L, %L, %L)',
               stream_id, event_type, payload, metadata, tenant_id, entity_id, event_id, durable),
        false, event_id IS NOT NULL)) AS r (nothing text);
END
$$;
COMMENT ON FUNCTION allsource.es_enqueue IS 'hand one event over to the workers; not transactional, and lost in a crash until es_flush or durable => true says that it is durable';

CREATE FUNCTION allsource.es_enqueue_batch(
    stream_ids  text[],
    event_types text[],
    payloads    jsonb[],
    metadata    jsonb[] DEFAULT NULL,
    tenant_id   text DEFAULT 'default',
    event_ids   uuid[] DEFAULT NULL,
    durable     bool DEFAULT false
) RETURNS int8
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    events  CONSTANT int4 := cardinality(stream_ids);
    done    int8 := 0;
    taken   int8;
    part    record;
    own     record;
    message text;
    code    text;
    details text;
    advice  text;
BEGIN
    -- Wrong arguments are for a group to complain about.
    IF events IS DISTINCT FROM cardinality(event_types) OR events IS DISTINCT FROM cardinality(payloads)
       OR events <> cardinality(metadata) OR events <> cardinality(event_ids) OR events = 0
       OR array_position(stream_ids, NULL) IS NOT NULL THEN
        RETURN (SELECT r.taken FROM allsource.link_result(allsource.router_call(ARRAY[NULL::int4],
            format('SELECT allsource.es_enqueue_batch(%L, %L, %L, %L, %L, %L, %L)',
                   stream_ids, event_types, payloads, metadata, tenant_id, event_ids, durable),
            false, false)) AS r (taken int8));
    END IF;
    FOR own IN
        SELECT array_agg(DISTINCT n.partition_id) AS partition_ids, array_agg(n.stream_id ORDER BY n.i) AS stream_ids,
               array_agg(event_types[n.i] ORDER BY n.i) AS event_types, array_agg(payloads[n.i] ORDER BY n.i) AS payloads,
               array_agg(metadata[n.i] ORDER BY n.i) AS metadata, array_agg(event_ids[n.i] ORDER BY n.i) AS event_ids
          FROM (SELECT s.stream_id, s.i, allsource.es_partition(s.stream_id) AS partition_id
                  FROM unnest(stream_ids) WITH ORDINALITY AS s (stream_id, i)) AS n
          LEFT JOIN allsource.routes m ON m.partition_id = n.partition_id
         GROUP BY m.group_id
         ORDER BY m.group_id
    LOOP
        BEGIN
            SELECT r.taken INTO taken FROM allsource.link_result(allsource.router_call(own.partition_ids,
                format('SELECT allsource.es_enqueue_batch(%L, %L, %L, %L, %L, %L, %L)', own.stream_ids, own.event_types, own.payloads,
                       CASE WHEN metadata IS NOT NULL THEN own.metadata END, tenant_id,
                       CASE WHEN event_ids IS NOT NULL THEN own.event_ids END, durable),
                false, allsource.router_has_ids(own.event_ids, cardinality(own.event_types)))) AS r (taken int8);
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE = '0A000' AND cardinality(own.partition_ids) > 1 THEN
                -- A partition has moved away from the others. What belongs to one partition always has one owner.
                taken := 0;
                FOR part IN
                    SELECT array_agg(n.stream_id ORDER BY n.i) AS stream_ids, array_agg(n.event_type ORDER BY n.i) AS event_types,
                           array_agg(n.payload ORDER BY n.i) AS payloads, array_agg(n.metadata ORDER BY n.i) AS metadata,
                           array_agg(n.event_id ORDER BY n.i) AS event_ids
                      FROM unnest(own.stream_ids, own.event_types, own.payloads, own.metadata, own.event_ids)
                           WITH ORDINALITY AS n (stream_id, event_type, payload, metadata, event_id, i)
                     GROUP BY allsource.es_partition(n.stream_id)
                LOOP
                    taken := taken + allsource.es_enqueue_batch(part.stream_ids, part.event_types, part.payloads,
                        CASE WHEN metadata IS NOT NULL THEN part.metadata END, tenant_id,
                        CASE WHEN event_ids IS NOT NULL THEN part.event_ids END, durable);
                END LOOP;
                done := done + taken;
                CONTINUE;
            END IF;
            IF done = 0 THEN
                RAISE;
            END IF;
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, details = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
            RAISE EXCEPTION '%', message
                  USING ERRCODE = code, HINT = advice,
                        DETAIL = format('%s events of other groups were enqueued before. %s', done, details);
        END;
        done := done + taken;
    END LOOP;
    RETURN done;
END
$$;
COMMENT ON FUNCTION allsource.es_enqueue_batch IS 'hand events over to the workers of the groups that own their streams, and return how many; see es_enqueue';

CREATE FUNCTION allsource.es_flush(
    timeout interval DEFAULT '1 minute'
) RETURNS int8
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own_ms  CONSTANT int4 := allsource.router_timeout_ms();
    longest CONSTANT int4 := LEAST(GREATEST(extract(epoch FROM timeout) * 1000, 0), 2000000000) + own_ms;
    flushed int8 := 0;
    name    text;
BEGIN
    FOREACH name IN ARRAY allsource.router_ask_all(format('SELECT allsource.es_flush(%L)', timeout), longest) LOOP
        flushed := flushed + (SELECT r.events FROM allsource.link_result(name) AS r (events int8));
    END LOOP;
    RETURN flushed;
END
$$;
COMMENT ON FUNCTION allsource.es_flush IS 'wait until everything that anybody has enqueued before in any group is durable, and return how many events were on their way';

CREATE FUNCTION allsource.es_dead_letters(
    after_id  int8 DEFAULT 0,
    max_count int8 DEFAULT 100
) RETURNS SETOF allsource.dead_letters
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    base      CONSTANT int8 := 1000000000000;
    group_ids CONSTANT int4[] := allsource.router_group_ids();
    names     text[];
    left_over int8 := max_count;
    rows      int8;
    i         int4;
BEGIN
    names := allsource.router_ask(group_ids,
        (SELECT array_agg(format('SELECT * FROM allsource.es_dead_letters(%L, %L)', GREATEST(after_id - g.id * base, 0), max_count) ORDER BY g.id)
           FROM unnest(group_ids) AS g (id)),
        allsource.router_timeout_ms());
    FOR i IN 1 .. cardinality(names) LOOP
        RETURN QUERY
        SELECT group_ids[i] * base + r.id, r.failed_at, r.enqueued_at, r.queue_epoch, r.queue_worker, r.queue_offset, r.sqlstate,
               r.reason, r.tenant_id, r.stream_id, r.entity_id, r.event_type, r.payload, r.metadata, r.event_id
          FROM allsource.link_result(names[i])
            AS r (id int8, failed_at timestamptz, enqueued_at timestamptz, queue_epoch int8, queue_worker int4, queue_offset int8,
                  sqlstate text, reason text, tenant_id text, stream_id text, entity_id text, event_type text, payload jsonb,
                  metadata jsonb, event_id uuid)
         ORDER BY r.id
         LIMIT left_over;
        GET DIAGNOSTICS rows = ROW_COUNT;
        left_over := left_over - rows;
    END LOOP;
END
$$;
COMMENT ON FUNCTION allsource.es_dead_letters IS 'enqueued events that could not be written, by group and oldest first; continue after the last id seen, and begin anew to see what has come since';

CREATE FUNCTION allsource.es_dead_letter_retry(id int8) RETURNS int8
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT r.version FROM allsource.link_result(allsource.router_call(
        NULL, format('SELECT allsource.es_dead_letter_retry(%L)', id % 1000000000000),
        true, false, (id / 1000000000000)::int4)) AS r (version int8));
END
$$;
COMMENT ON FUNCTION allsource.es_dead_letter_retry IS 'append the event of a dead letter to its stream, remove the letter, and return the event''s version';

CREATE FUNCTION allsource.es_dead_letter_discard(id int8) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM allsource.link_result(allsource.router_call(
        NULL, format('SELECT allsource.es_dead_letter_discard(%L)', id % 1000000000000),
        true, false, (id / 1000000000000)::int4)) AS r (nothing text);
END
$$;
COMMENT ON FUNCTION allsource.es_dead_letter_discard IS 'remove a dead letter for good';
