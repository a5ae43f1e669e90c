-- Calls: to the owner of partitions, and to several groups side by side. They return the names of connections
-- whose answers have come and are no errors, for the caller to fetch with link_result. Times are in
-- milliseconds. What was sent is never cancelled: a store whose commit waits for a standby would then report success
-- for what the standby does not have.

-- How long to rest before something is tried again.
CREATE FUNCTION allsource.router_rest() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_sleep(0.05);
END
$$;
COMMENT ON FUNCTION allsource.router_rest IS 'rests before something is tried again';

-- Without a session that waits for another: what the coordinator says is returned, and recorded only by who
-- comes first and may write.
CREATE FUNCTION allsource.router_learn(must_answer bool) RETURNS int4[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until  CONSTANT timestamptz := clock_timestamp() + interval '1 ms' * allsource.router_timeout_ms();
    name   text;
    owners int4[];
    groups jsonb;
    map    jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM allsource.router_coordinator) THEN
        IF must_answer THEN
            RAISE EXCEPTION 'this router knows no coordinator'
                  USING ERRCODE = 'object_not_in_prerequisite_state',
                        HINT = 'Insert its conninfo into allsource.router_coordinator.';
        END IF;
        RETURN NULL;
    END IF;
    name := allsource.router_start(NULL,
        'SELECT jsonb_agg(jsonb_build_array(m.partition_id, m.group_id, m.epoch)) FROM allsource.partition_map m', NOT must_answer);
    IF name IS NULL THEN
        RETURN NULL;
    END IF;
    IF NOT allsource.link_answered(name, until) THEN
        PERFORM allsource.link_close(name);
        IF must_answer THEN
            RAISE EXCEPTION 'the coordinator cannot be reached'
                  USING ERRCODE = '08006', DETAIL = 'It does not answer.';
        END IF;
        RETURN NULL;
    END IF;
    SELECT r.map INTO map FROM allsource.link_result(name) AS r (map jsonb);
    -- Addresses are for those who may see them there.
    name := allsource.router_start(NULL, 'SELECT has_column_privilege(''allsource.cluster_groups'', ''conninfo'', ''SELECT'')', false);
    IF allsource.link_answered(name, until)
       AND (SELECT r.allowed FROM allsource.link_result(name) AS r (allowed bool)) THEN
        name := allsource.router_start(NULL, 'SELECT jsonb_object_agg(g.group_id, g.conninfo) FROM allsource.cluster_groups g', false);
        IF allsource.link_answered(name, until) THEN
            SELECT r.groups INTO groups FROM allsource.link_result(name) AS r (groups jsonb);
        END IF;
    END IF;
    SELECT array_agg((m.entry ->> 1)::int4 ORDER BY p.partition_id) INTO owners
      FROM generate_series(0, 31) AS p (partition_id)
      LEFT JOIN jsonb_array_elements(map) AS m (entry) ON (m.entry ->> 0)::int4 = p.partition_id;
    IF current_setting('transaction_read_only') = 'off' AND current_setting('transaction_isolation') = 'read committed' THEN
        IF must_answer THEN
            PERFORM FROM allsource.router_coordinator c FOR UPDATE;
        ELSE
            PERFORM FROM allsource.router_coordinator c FOR UPDATE SKIP LOCKED;
        END IF;
        IF FOUND THEN
            INSERT INTO allsource.routes AS r (partition_id, group_id, epoch)
            SELECT (m.entry ->> 0)::int4, (m.entry ->> 1)::int4, (m.entry ->> 2)::int8
              FROM jsonb_array_elements(map) AS m (entry)
                ON CONFLICT (partition_id) DO UPDATE SET group_id = excluded.group_id, epoch = excluded.epoch
             WHERE r.epoch < excluded.epoch;
            INSERT INTO allsource.router_groups AS r (group_id, conninfo)
            SELECT g.key::int4, g.value FROM jsonb_each_text(groups) AS g
                ON CONFLICT (group_id) DO UPDATE SET conninfo = excluded.conninfo
             WHERE r.conninfo <> excluded.conninfo;
            DELETE FROM allsource.router_groups r WHERE groups IS NOT NULL AND NOT groups ? r.group_id::text;
        END IF;
    END IF;
    RETURN owners;
EXCEPTION
    WHEN OTHERS THEN
        IF must_answer THEN
            RAISE;
        END IF;
        RETURN NULL;
END
$$;
COMMENT ON FUNCTION allsource.router_learn IS 'asks the coordinator for the map, and returns the owners of the 32 partitions, NULL if it does not answer';

CREATE FUNCTION allsource.es_router_refresh() RETURNS int4
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT count(o.group_id) FROM unnest(allsource.router_learn(true)) AS o (group_id));
END
$$;
COMMENT ON FUNCTION allsource.es_router_refresh IS 'reads the map, and the groups where the caller may see them, from the coordinator; returns how many partitions have an owner';

CREATE FUNCTION allsource.router_owner(partition_ids int4[], owners int4[]) RETURNS int4
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lowest  int4;
    highest int4;
    known   int4;
BEGIN
    IF owners IS NULL THEN
        SELECT min(r.group_id), max(r.group_id), count(*) INTO lowest, highest, known
          FROM allsource.routes r
         WHERE r.partition_id = ANY (partition_ids);
    ELSE
        SELECT min(owners[p.id + 1]), max(owners[p.id + 1]), count(owners[p.id + 1]) INTO lowest, highest, known
          FROM unnest(partition_ids) AS p (id);
    END IF;
    IF lowest <> highest THEN
        RAISE EXCEPTION 'the streams of a batch belong to several groups'
              USING ERRCODE = 'feature_not_supported',
                    DETAIL = format('Among their owners are group %s and group %s.', lowest, highest),
                    HINT = 'There is no transaction across groups: append the streams of each group with a call of its own, or one by one.';
    END IF;
    IF known < cardinality(partition_ids) THEN
        RETURN NULL;
    END IF;
    RETURN lowest;
END
$$;
COMMENT ON FUNCTION allsource.router_owner IS 'the one group that owns all of these partitions; NULL if that is not known';

CREATE FUNCTION allsource.router_target(partition_ids int4[], owners int4[]) RETURNS int4
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target int4 := allsource.router_owner(partition_ids, owners);
BEGIN
    IF target IS NULL AND owners IS NULL AND partition_ids[1] IS NOT NULL THEN
        target := allsource.router_owner(partition_ids, allsource.router_learn(false));
    END IF;
    IF target IS NULL THEN
        -- A wrong argument is for any group to complain about.
        IF partition_ids[1] BETWEEN 0 AND 31 OR NOT EXISTS (SELECT FROM allsource.router_groups) THEN
            RAISE EXCEPTION 'this router does not know who owns partition %', partition_ids[1]
                  USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call es_router_refresh().';
        END IF;
        SELECT min(g.group_id) INTO target FROM allsource.router_groups g;
    END IF;
    RETURN target;
END
$$;
COMMENT ON FUNCTION allsource.router_target IS 'the group to which a call about partitions is sent';

CREATE FUNCTION allsource.router_probed(name text, target int4) RETURNS bool
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF allsource.router_try(name, target, 'SELECT 1', false, true) <> 'answered' THEN
        RETURN false;
    END IF;
    PERFORM FROM allsource.link_result(name) AS r (one int4);
    RETURN true;
END
$$;
COMMENT ON FUNCTION allsource.router_probed IS 'whether a group answers on a connection';

CREATE FUNCTION allsource.router_call_again(
    partition_ids int4[],
    query         text,
    is_undoable   bool,
    may_repeat    bool,
    group_id      int4,
    target        int4,
    name          text,
    outcome       text
) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    give_up  CONSTANT timestamptz := clock_timestamp() + interval '1 ms' * allsource.router_retry_time_ms();
    owners   int4[];
    in_time  bool := true;
    was_lost bool := false;
    unknown  CONSTANT text[] := ARRAY[
        'Repeat it with the same event_id: what was done is not done again.',
        'Look whether it was done. Calls that have an event_id for each event are repeated by the router, and can be repeated by the caller.'];
BEGIN
    target := COALESCE(target, group_id, allsource.router_target(partition_ids, NULL));
    LOOP
        -- The name of a connection changes with the map.
        name := COALESCE(name, allsource.router_name(target));
        IF outcome = 'unsent' THEN
            -- A connection that is still open has perhaps a frozen server behind it. It is asked something small, as
            -- what is larger than the kernel takes at once is sent without a limit of time.
            IF NOT allsource.router_probed(name, target) THEN
                name := allsource.router_open(target, in_time OR was_lost);
            END IF;
            outcome := COALESCE(allsource.router_try(name, target, query, is_undoable, may_repeat), 'unsent');
        END IF;
        IF outcome = 'answered' THEN
            RETURN name;
        ELSIF outcome = 'failed' THEN
            outcome := allsource.router_failure(name, in_time OR was_lost);
        END IF;

        -- Whatever a repeated call has met since, what was once sent may have been done.
        was_lost := was_lost OR outcome IN ('lost', 'silent');
        IF outcome <> 'moved' THEN
            PERFORM allsource.link_close(name);
        END IF;
        IF was_lost AND NOT (may_repeat AND in_time) THEN
            RAISE EXCEPTION 'the connection to group % was lost before it had answered', target
                  USING ERRCODE = 'transaction_resolution_unknown',
                        DETAIL = CASE outcome WHEN 'lost' THEN 'It was closed.' WHEN 'silent' THEN 'It was given up after allsource.route_timeout.'
                                 ELSE 'It cannot be asked again.' END || ' Whether the call was done is not known.',
                        HINT = unknown[2 - may_repeat::int4];
        END IF;
        PERFORM allsource.router_rest();
        IF outcome = 'moved' THEN
            owners := allsource.router_learn(false);
        END IF;
        -- The last attempt is made with the time over, and raises what it meets.
        in_time := clock_timestamp() < give_up;
        target := COALESCE(group_id, allsource.router_target(partition_ids, owners));
        name := NULL;
        outcome := 'unsent';
    END LOOP;
EXCEPTION WHEN query_canceled THEN
    -- In an attempt that was not sent, perhaps after one that was.
    IF NOT was_lost OR NOT is_undoable AND may_repeat THEN
        RAISE;
    END IF;
    RAISE EXCEPTION '%', SQLERRM
          USING ERRCODE = 'query_canceled',
                DETAIL = format('What was sent to group %s is not cancelled there.', target),
                HINT = unknown[2 - may_repeat::int4];
END
$$;
COMMENT ON FUNCTION allsource.router_call_again IS 'goes on with a call that was not done at once: repeats it where it was not done, or may be repeated, until allsource.route_retry_time is over';

CREATE FUNCTION allsource.router_call(partition_ids int4[], query text, is_undoable bool, may_repeat bool, group_id int4 DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'router_call';
COMMENT ON FUNCTION allsource.router_call IS 'has a statement done by the owner of partitions, or by a group, and returns the connection that has its result; what is not done at once is left to router_call_again';

CREATE FUNCTION allsource.router_ask(
    group_ids  int4[],
    queries    text[],
    timeout_ms int4,
    begun      timestamptz DEFAULT clock_timestamp()
) RETURNS text[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    give_up CONSTANT timestamptz := begun + interval '1 ms' * allsource.router_retry_time_ms();
    until   timestamptz;
    names   text[] := array_fill(NULL::text, ARRAY[cardinality(group_ids)]);
    is_done bool[] := array_fill(false, ARRAY[cardinality(group_ids)]);
    in_time bool := clock_timestamp() < give_up;
    outcome text;
    i       int4;
BEGIN
    LOOP
        -- Who is connected to works already while the others are connected to, one after the other.
        FOR i IN 1 .. cardinality(group_ids) LOOP
            IF NOT is_done[i] AND allsource.link_sent(allsource.router_name(group_ids[i]), queries[i]) THEN
                names[i] := allsource.router_name(group_ids[i]);
            END IF;
        END LOOP;
        FOR i IN 1 .. cardinality(group_ids) LOOP
            CONTINUE WHEN is_done[i] OR names[i] IS NOT NULL;
            names[i] := allsource.router_start(group_ids[i], queries[i], in_time);
            -- Without it there is no result, and several that are away must not take the sum of their times.
            EXIT WHEN names[i] IS NULL;
        END LOOP;
        until := clock_timestamp() + interval '1 ms' * timeout_ms;
        FOR i IN 1 .. cardinality(group_ids) LOOP
            CONTINUE WHEN is_done[i] OR names[i] IS NULL;
            outcome := 'lost';
            IF allsource.link_answered(names[i], until) THEN
                outcome := CASE WHEN allsource.link_error(names[i]) = 'OK' THEN 'done'
                                ELSE allsource.router_failure(names[i], in_time) END;
            END IF;
            IF outcome = 'done' THEN
                is_done[i] := true;
            ELSIF outcome = 'moved' THEN
                -- The questions have to be divided anew. Connections with an answer in them are replaced at their next use.
                RETURN NULL;
            ELSE
                PERFORM allsource.link_close(names[i]);
                names[i] := NULL;
                IF NOT in_time THEN
                    RAISE EXCEPTION 'group % cannot be reached', group_ids[i]
                          USING ERRCODE = '08006', DETAIL = 'It does not answer.';
                END IF;
            END IF;
        END LOOP;
        IF false <> ALL (is_done) THEN
            RETURN names;
        END IF;
        PERFORM allsource.router_rest();
        in_time := clock_timestamp() < give_up;
    END LOOP;
END
$$;
COMMENT ON FUNCTION allsource.router_ask IS 'asks groups side by side what may be asked again, and returns the connections that have the results; NULL if a partition has moved';

CREATE FUNCTION allsource.router_group_ids() RETURNS int4[]
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT COALESCE(array_agg(g.group_id ORDER BY g.group_id), '{}') FROM allsource.router_groups g;
END;
COMMENT ON FUNCTION allsource.router_group_ids IS 'the groups that the router knows';

CREATE FUNCTION allsource.router_ask_all(query text, timeout_ms int4) RETURNS text[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    group_ids CONSTANT int4[] := allsource.router_group_ids();
BEGIN
    RETURN allsource.router_ask(group_ids, array_fill(query, ARRAY[cardinality(group_ids)]), timeout_ms);
END
$$;
COMMENT ON FUNCTION allsource.router_ask_all IS 'asks all groups the same';

-- Each is asked once. Connecting ends with the time for an answer, however many groups are away.
CREATE FUNCTION allsource.router_look(query text, OUT group_ids int4[], OUT names text[], OUT reasons text[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    timeout CONSTANT interval := interval '1 ms' * allsource.router_timeout_ms();
    until   timestamptz := clock_timestamp() + timeout;
    said    text;
    i       int4;
BEGIN
    group_ids := allsource.router_group_ids();
    names := array_fill(NULL::text, ARRAY[cardinality(group_ids)]);
    reasons := names;
    FOR i IN 1 .. cardinality(group_ids) LOOP
        IF allsource.link_sent(allsource.router_name(group_ids[i]), query) THEN
            names[i] := allsource.router_name(group_ids[i]);
        END IF;
    END LOOP;
    FOR i IN 1 .. cardinality(group_ids) LOOP
        CONTINUE WHEN names[i] IS NOT NULL;
        IF clock_timestamp() > until THEN
            reasons[i] := 'It was not asked: connecting to others has taken allsource.route_timeout.';
            CONTINUE;
        END IF;
        BEGIN
            names[i] := allsource.router_start(group_ids[i], query, false);
        EXCEPTION WHEN connection_exception OR invalid_authorization_specification THEN
            GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
            reasons[i] := said;
        END;
    END LOOP;
    until := clock_timestamp() + timeout;
    FOR i IN 1 .. cardinality(group_ids) LOOP
        CONTINUE WHEN names[i] IS NULL;
        IF NOT allsource.link_answered(names[i], until) THEN
            reasons[i] := 'It does not answer.';
        ELSIF allsource.link_error(names[i]) <> 'OK' THEN
            BEGIN
                PERFORM allsource.router_failure(names[i], false);
                reasons[i] := 'It has closed the connection.';
            EXCEPTION WHEN OTHERS THEN
                reasons[i] := format('It answers: %s.', SQLERRM);
            END;
        END IF;
        IF reasons[i] IS NOT NULL THEN
            PERFORM allsource.link_close(names[i]);
            names[i] := NULL;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION allsource.router_look IS 'asks all groups the same, and returns the connections that have the results, or why there is none';

CREATE FUNCTION allsource.router_shares(wanted int4[], owners int4[], OUT group_ids int4[], OUT shares text[])
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing int4;
BEGIN
    owners := COALESCE(owners, (SELECT array_agg(r.group_id ORDER BY p.id)
                                  FROM generate_series(0, 31) AS p (id)
                                  LEFT JOIN allsource.routes r ON r.partition_id = p.id));
    SELECT p.id INTO missing FROM generate_series(0, 31) AS p (id)
     WHERE owners[p.id + 1] IS NULL AND (wanted IS NULL OR p.id = ANY (wanted)) LIMIT 1;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'this router does not know who owns partition %', missing
              USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call es_router_refresh().';
    END IF;
    SELECT array_agg(s.group_id ORDER BY s.group_id), array_agg(s.share ORDER BY s.group_id) INTO group_ids, shares
      FROM (SELECT owners[p.id + 1] AS group_id, array_agg(p.id ORDER BY p.id)::text AS share
              FROM generate_series(0, 31) AS p (id)
             WHERE wanted IS NULL OR p.id = ANY (wanted)
             GROUP BY 1) AS s;
END
$$;
COMMENT ON FUNCTION allsource.router_shares IS 'the groups that own these partitions, NULL for all, and which of them each owns';
