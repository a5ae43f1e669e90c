-- Moving partitions. What is to be done next is decided by move_next, in Rust, from what is recorded here and what
-- source and target tell; this does it, and records it. See src/cluster/moving.

CREATE FUNCTION allsource.move_next(record json, seen json) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'move_next';
COMMENT ON FUNCTION allsource.move_next IS 'the next step of a move, as JSON, from its row and what source and target have told';

CREATE FUNCTION allsource.move_cancelled(phase text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'move_cancelled';
COMMENT ON FUNCTION allsource.move_cancelled IS 'the phase in which a move goes back; NULL if it does not any more';

CREATE FUNCTION allsource.move_begin(partition_id int4, group_id int4) RETURNS int8
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    moved_id  CONSTANT int4 := move_begin.partition_id;
    target    CONSTANT int4 := move_begin.group_id;
    owner     allsource.cluster_map;
    under_way allsource.partition_moves;
    joined    timestamptz;
BEGIN
    PERFORM allsource.check_coordinator();
    IF moved_id IS NULL OR target IS NULL THEN
        RAISE EXCEPTION 'partition_id and group_id must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF moved_id NOT BETWEEN 0 AND 31 THEN
        RAISE EXCEPTION 'partition_id must be from 0 to 31, not %', moved_id USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Neither is removed meanwhile.
    SELECT g.joined_at INTO joined FROM allsource.cluster_groups g WHERE g.group_id = target FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no group %', target USING ERRCODE = 'undefined_object', HINT = 'See es_groups().';
    END IF;
    IF joined IS NULL THEN
        RAISE EXCEPTION 'group % has not joined', target
              USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call es_group_add again.';
    END IF;
    SELECT * INTO owner FROM allsource.cluster_map m WHERE m.partition_id = moved_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the owner of partition % is not known', moved_id
              USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Add the group that owns it with es_group_add.';
    END IF;
    SELECT * INTO under_way FROM allsource.partition_moves v WHERE v.partition_id = moved_id AND v.ended_at IS NULL;
    IF FOUND THEN
        IF under_way.target_id <> target THEN
            RAISE EXCEPTION 'partition % is being moved to group %', moved_id, under_way.target_id
                  USING ERRCODE = 'object_not_in_prerequisite_state',
                        DETAIL = format('The move is in phase "%s".', under_way.phase),
                        HINT = 'Wait for it, or call es_move_cancel.';
        END IF;
        RETURN under_way.epoch;
    END IF;
    IF owner.group_id = target THEN
        RAISE NOTICE 'partition % is in group % already', moved_id, target;
        RETURN NULL;
    END IF;
    INSERT INTO allsource.partition_moves (partition_id, epoch, source_id, target_id, phase, started_by, started_at, looked_at)
    VALUES (moved_id, owner.epoch + 1, owner.group_id, target, 'recorded', session_user, clock_timestamp(), clock_timestamp());
    RETURN owner.epoch + 1;
END
$$;
COMMENT ON FUNCTION allsource.move_begin IS 'records a move, or finds the one that is under way, and returns its epoch; NULL: the partition is there already';

-- What is to be recorded, in the record's own words. Only by who has read the record as it is: another may have gone on.
CREATE FUNCTION allsource.move_record(moving allsource.partition_moves, entry jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_final CONSTANT bool := entry ->> 'phase' IN ('done', 'returned');
BEGIN
    UPDATE allsource.partition_moves v
       SET phase            = entry ->> 'phase',
           drained_lsn      = COALESCE((entry ->> 'drained_lsn')::pg_lsn, v.drained_lsn),
           drained_position = COALESCE((entry ->> 'drained_position')::int8, v.drained_position),
           fenced_lsn       = COALESCE((entry ->> 'fenced_lsn')::pg_lsn, v.fenced_lsn),
           fenced_position  = COALESCE((entry ->> 'fenced_position')::int8, v.fenced_position),
           setback          = COALESCE(v.setback, entry ->> 'setback'),
           fence_began_at   = CASE entry ->> 'phase' WHEN 'fenced' THEN COALESCE((entry ->> 'fence_began_at')::timestamptz, v.looked_at)
                              ELSE v.fence_began_at END,
           fence_ended_at   = CASE WHEN entry ->> 'phase' IN ('given', 'taken back') AND v.fence_began_at IS NOT NULL THEN clock_timestamp()
                              ELSE v.fence_ended_at END,
           ended_at         = CASE WHEN is_final THEN clock_timestamp() END,
           error            = NULL,
           lag_bytes        = NULL
     WHERE v.partition_id = moving.partition_id AND v.epoch = moving.epoch AND v.phase = moving.phase;
    IF FOUND AND entry ->> 'map_owner' IS NOT NULL THEN
        UPDATE allsource.cluster_map m
           SET group_id = (entry ->> 'map_owner')::int4, epoch = (entry ->> 'map_epoch')::int8
         WHERE m.partition_id = moving.partition_id AND m.epoch < (entry ->> 'map_epoch')::int8;
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.move_record IS 'records the next phase of a move, and the map with it';

CREATE FUNCTION allsource.move_turn_back(moving allsource.partition_moves, why text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    back CONSTANT text := allsource.move_cancelled(moving.phase);
BEGIN
    IF back IS NOT NULL AND back <> moving.phase THEN
        PERFORM allsource.move_record(moving, jsonb_build_object('phase', back, 'setback', why));
    END IF;
    RETURN back;
END
$$;
COMMENT ON FUNCTION allsource.move_turn_back IS 'lets a move go back, if it can, and returns the phase in which it does so';

CREATE FUNCTION allsource.move_query(moving allsource.partition_moves, step jsonb, source jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Of its lock no more than this is waited for, as everybody who comes later waits behind it.
    soon   CONSTANT text := 'set_config(''lock_timeout'', ''300ms'', true)';
    place  CONSTANT text := format('%s, %s', moving.partition_id, moving.epoch);
    action CONSTANT text := step ->> 'action';
BEGIN
    RETURN CASE action
        WHEN 'receive' THEN format('SELECT to_jsonb(allsource.es_member_receive(%s, %s)::text) FROM %s', place, moving.source_id, soon)
        WHEN 'publish' THEN format('SELECT to_jsonb(allsource.es_member_publish(%s))', place)
        -- A setting of the connection: statements get into logs.
        WHEN 'subscribe' THEN format('SELECT to_jsonb(allsource.es_member_subscribe(%s, current_setting(''allsource_coordinator.source''), %L)::text)',
            place, source ->> 'slot_name')
        WHEN 'drain' THEN format('SELECT to_jsonb(allsource.es_cool(%s, ''5 s'')::text)', moving.partition_id)
        WHEN 'check' THEN format('SELECT to_jsonb(s) FROM allsource.es_member_summary(%s, 0, %s, true, %L) AS s',
            moving.partition_id, step ->> 'position', source ->> 'streams_above')
        WHEN 'compare' THEN format('SELECT to_jsonb(s) FROM allsource.es_member_summary(%s, %s, NULL, true, %L) AS s',
            moving.partition_id, step ->> 'position', source ->> 'streams_above')
        WHEN 'close' THEN format('SELECT to_jsonb(allsource.es_member_close(%s)) FROM %s', place, soon)
        WHEN 'fence' THEN format('SELECT to_jsonb(allsource.es_member_fence(%s)::text) FROM %s', place, soon)
        WHEN 'raise counter' THEN format('SELECT to_jsonb(allsource.es_member_raise_counter(%s, %s)::text)', place, step ->> 'position')
        WHEN 'give' THEN format('SELECT to_jsonb(allsource.es_member_give(%s)::text)', place)
        WHEN 'release' THEN format('SELECT to_jsonb(allsource.es_member_release(%s, %s)::text)', place, moving.target_id)
        WHEN 'unsubscribe' THEN format('SELECT to_jsonb(allsource.es_member_unsubscribe(%s)::text)', place)
        WHEN 'unpublish' THEN format('SELECT to_jsonb(allsource.es_member_unpublish(%s)::text)', place)
        WHEN 'refuse' THEN format('SELECT to_jsonb(allsource.es_member_refuse(%s, %s)::text)', place, moving.source_id)
        WHEN 'take back' THEN format('SELECT to_jsonb(allsource.es_member_take_back(%s)::text)', place)
        WHEN 'empty source' THEN format('SELECT to_jsonb(allsource.es_member_empty(%s)::text) FROM %s', place, soon)
        WHEN 'empty target' THEN format('SELECT to_jsonb(allsource.es_member_empty(%s)::text) FROM %s', place, soon)
    END;
END
$$;
COMMENT ON FUNCTION allsource.move_query IS 'the request to a member by which a step is done';

CREATE FUNCTION allsource.target_ask(moving allsource.partition_moves, query text) RETURNS allsource.node_answer[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    whom    CONSTANT text := format('group %s, the target', moving.target_id);
    answers allsource.node_answer[];
BEGIN
    answers := allsource.nodes_ask(ARRAY[whom], ARRAY[(
        SELECT allsource.node_conninfo(t.conninfo, 'read-write', ARRAY[
                   format('allsource_coordinator.source=%s user=allsource_replication target_session_attrs=read-write connect_timeout=5', s.conninfo)])
          FROM allsource.cluster_groups s, allsource.cluster_groups t
         WHERE s.group_id = moving.source_id AND t.group_id = moving.target_id)], ARRAY[query], 30000);
    PERFORM allsource.link_close(allsource.link_name(whom));
    RETURN answers;
END
$$;
COMMENT ON FUNCTION allsource.target_ask IS 'asks the target on a connection that has the source''s connection string as a setting';

-- What can pass by itself is tried again; what is the same three times in a row is raised, or ends a fence.
CREATE FUNCTION allsource.move_failed(moving allsource.partition_moves, memory jsonb, code text, problem text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    may_pass CONSTANT bool := code ~ '^(08|53|57|40|55P03|55006|25006)';
    failures CONSTANT int4 := CASE WHEN may_pass THEN 0
                                   WHEN memory ->> 'problem' = problem THEN (memory ->> 'failures')::int4 + 1 ELSE 1 END;
    -- Others wait behind who waits for a lock, so that is done ever less often.
    waits    CONSTANT int4 := CASE WHEN code ~ '^(53|55P03|55006)' THEN COALESCE((memory ->> 'waits')::int4, 0) + 1 ELSE 0 END;
BEGIN
    IF failures >= 3 THEN
        IF moving.phase IN ('fenced', 'replayed', 'compared') THEN
            PERFORM allsource.move_turn_back(moving, problem);
        ELSE
            RAISE EXCEPTION '%', problem
                  USING ERRCODE = code,
                        DETAIL = format('The move of partition %s to group %s stands in phase "%s".', moving.partition_id, moving.target_id, moving.phase),
                        HINT = 'Remove the cause and call es_move_partition again, or call es_move_cancel.';
        END IF;
    END IF;
    RETURN memory || jsonb_build_object('problem', problem, 'failures', failures, 'waits', waits,
                                        'pause_s', LEAST(0.2 * 2 ^ GREATEST(waits - 1, 0), 10));
END
$$;
COMMENT ON FUNCTION allsource.move_failed IS 'what follows from a request that has failed';

-- Whoever acts on the record must know that it is durable, and that the standby has it: so something is written and
-- committed before it is read.
CREATE FUNCTION allsource.move_look(partition_id int4, epoch int8, memory jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pause_s  CONSTANT float8 := (memory ->> 'pause_s')::float8;
    recorded text;
BEGIN
    IF pause_s > 0 THEN
        PERFORM pg_sleep(pause_s);
    END IF;
    PERFORM allsource.check_coordinator();
    UPDATE allsource.partition_moves v
       SET looked_at    = clock_timestamp(),
           error        = CASE WHEN v.ended_at IS NULL THEN memory ->> 'problem' END,
           lag_bytes    = (memory ->> 'lag_bytes')::int8,
           copied_runs  = COALESCE((memory ->> 'copied_runs')::int8, v.copied_runs),
           copied_bytes = COALESCE((memory ->> 'copied_bytes')::int8, v.copied_bytes)
     WHERE v.partition_id = move_look.partition_id AND v.epoch = move_look.epoch
    RETURNING v.phase INTO recorded;
    RETURN memory - 'pause_s' || jsonb_build_object('recorded', recorded);
END
$$;
COMMENT ON FUNCTION allsource.move_look IS 'the part of es_move_partition before each commit: somebody carries the move on. Returns the memory with the phase that is durable then';

-- memory: what was seen since the record was read as it is. Where that has changed, nothing of it counts.
CREATE FUNCTION allsource.move_step(partition_id int4, epoch int8, memory jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lag_bytes_max CONSTANT int8 := 1024 * 1024;
    moving  allsource.partition_moves;
    sides   int4[];
    report  text;
    answers allsource.node_answer[];
    source_report jsonb;
    answer  allsource.node_answer;
    step    jsonb;
    began   timestamptz;
BEGIN
    PERFORM allsource.commit_durably();
    -- The lock tells the coordinator's process that somebody is at it. Nobody waits for it. It is not that of the row,
    -- as that would give the transaction a number: where the coordinator is on the source's server, the slot that it asks for
    -- would wait for its own end.
    PERFORM pg_try_advisory_xact_lock_shared('allsource.partition_moves'::regclass::oid::int4, move_step.partition_id);
    SELECT * INTO STRICT moving FROM allsource.partition_moves v
     WHERE v.partition_id = move_step.partition_id AND v.epoch = move_step.epoch;
    IF moving.ended_at IS NOT NULL THEN
        IF moving.phase = 'returned' THEN
            RAISE EXCEPTION 'partition % was not moved to group %', moving.partition_id, moving.target_id
                  USING ERRCODE = 'object_not_in_prerequisite_state',
                        DETAIL = format('The move went back: %s.', moving.setback),
                        HINT = 'It can be begun again.';
        END IF;
        RETURN NULL;
    END IF;
    -- Changed since, and perhaps not confirmed by the standby.
    IF memory ->> 'recorded' IS DISTINCT FROM moving.phase THEN
        RETURN memory;
    END IF;
    IF memory ->> 'phase' IS DISTINCT FROM moving.phase THEN
        memory := jsonb_build_object('phase', moving.phase, 'fence_began_at', memory ->> 'fence_began_at');
    END IF;
    memory := memory - 'recorded';
    IF moving.phase IN ('fenced', 'replayed', 'compared', 'raised')
       AND clock_timestamp() > moving.fence_began_at + current_setting('allsource.move_fence_timeout')::interval THEN
        PERFORM allsource.move_turn_back(moving, 'the fence has lasted for longer than allsource.move_fence_timeout');
        RETURN memory;
    END IF;

    IF moving.phase = 'checked'
       AND clock_timestamp() > (memory ->> 'closed_at')::timestamptz + current_setting('allsource.move_fence_timeout')::interval THEN
        PERFORM allsource.move_turn_back(moving, concat_ws(': ', 'the source could not be fenced within allsource.move_fence_timeout', memory ->> 'problem'));
        RETURN memory;
    END IF;

    sides := ARRAY[moving.source_id, moving.target_id];
    report := format('SELECT to_jsonb(r) || jsonb_build_object(''bytes'', (SELECT sum(pg_total_relation_size(format(''allsource.%%s_p%3$s'', n)::regclass)) '
                     'FROM unnest(ARRAY[''event_streams'', ''event_log'', ''event_ids'']) AS n), '
                     '''has_publication'', EXISTS (SELECT FROM pg_publication p WHERE p.pubname = ''allsource_p%3$s_e%2$s''), '
                     '''errors'', (SELECT sum(s.apply_error_count + s.sync_error_count) FROM pg_stat_subscription_stats s '
                     'WHERE s.subname LIKE ''allsource\_p%3$s\_e%2$s%%'')) FROM allsource.es_member_report(%1$s, %2$s) AS r',
                     moving.partition_id, moving.epoch, lpad(moving.partition_id::text, 2, '0'));
    answers := allsource.groups_ask(sides, ARRAY[report, report], 5000);
    FOREACH answer IN ARRAY answers LOOP
        IF answer.code IS NOT NULL AND answer.code !~ '^(08|57P)' THEN
            RETURN allsource.move_failed(moving, memory, answer.code, answer.problem);
        END IF;
    END LOOP;
    -- One that was begun and not completed is to be dropped as well.
    IF moving.phase IN ('released', 'taken back') THEN
        answers[1].answer := answers[1].answer || jsonb_build_object('is_published', answers[1].answer -> 'has_publication');
    END IF;
    IF moving.phase = 'subscribed' THEN
        memory := memory || jsonb_build_object('copied_bytes', answers[2].answer -> 'bytes');
    END IF;
    step := allsource.move_next(to_json(moving),
        json_build_object('source', answers[1].answer, 'target', answers[2].answer, 'are_same', memory -> 'are_same',
                          'lag_bytes_max', lag_bytes_max))::jsonb;

    CASE step ->> 'kind'
    WHEN 'record' THEN
        PERFORM allsource.move_record(moving, step || jsonb_build_object('fence_began_at', memory ->> 'fence_began_at'));
        RETURN memory;
    WHEN 'wait' THEN
        RETURN memory || jsonb_build_object('lag_bytes', step -> 'lag_bytes', 'problem', concat_ws(': ', step ->> 'reason', answers[1].problem, answers[2].problem,
                                                'its subscription has failed ' || NULLIF((answers[2].answer ->> 'errors')::int8, 0) || ' times, and its log says why'),
                                            'pause_s', CASE WHEN moving.phase IN ('checked', 'fenced', 'raised') THEN 0.005 ELSE 0.1 END);
    WHEN 'fail' THEN
        -- It means nothing if the record was changed meanwhile.
        IF EXISTS (SELECT FROM allsource.partition_moves v
                    WHERE v.partition_id = moving.partition_id AND v.epoch = moving.epoch AND v.phase = moving.phase) THEN
            RETURN allsource.move_failed(moving, memory, '55000', format('partition %s cannot be moved: %s', moving.partition_id, step ->> 'reason'));
        END IF;
        RETURN memory;
    WHEN 'do' THEN
        IF step ->> 'action' = 'fence' AND memory ->> 'is_closed' IS DISTINCT FROM 'true' THEN
            step := step || '{"action": "close"}';
        END IF;
        began := clock_timestamp();
        sides := CASE step ->> 'side' WHEN 'source' THEN sides[1:1] WHEN 'target' THEN sides[2:2] ELSE sides END;
        source_report := answers[1].answer;
        report := allsource.move_query(moving, step, source_report);
        IF step ->> 'action' = 'subscribe' THEN
            answers := allsource.target_ask(moving, report);
        ELSE
            answers := allsource.groups_ask(sides, array_fill(report, ARRAY[cardinality(sides)]),
                CASE step ->> 'action' WHEN 'check' THEN NULL ELSE 30000 END);
        END IF;
        FOREACH answer IN ARRAY answers LOOP
            IF answer.code IS NOT NULL THEN
                RETURN allsource.move_failed(moving, memory, answer.code, answer.problem);
            END IF;
        END LOOP;
        memory := memory - 'problem' - 'failures' - 'waits';
        IF step ->> 'action' = 'drain' THEN
            -- What is hot has been settled by now. What waits is the workers' to write.
            memory := memory || jsonb_build_object('pause_s', 0.2, 'problem', CASE WHEN (source_report ->> 'is_waiting')::bool
                THEN format('group %s has waiting events of the partition: see waiting_events there', moving.source_id) END);
        END IF;
        IF step ->> 'action' = 'close' THEN
            memory := memory || jsonb_build_object('is_closed', answers[1].answer, 'closed_at', COALESCE(memory ->> 'closed_at', began::text));
        ELSIF step ->> 'action' = 'fence' THEN
            memory := memory || jsonb_build_object('fence_began_at', began);
        ELSIF step ->> 'side' = 'both' THEN
            memory := memory || jsonb_build_object('are_same', answers[1].answer = answers[2].answer);
            IF step ->> 'action' = 'check' THEN
                memory := memory || jsonb_build_object('copied_runs', answers[2].answer -> 'runs');
            END IF;
        END IF;
        RETURN memory;
    ELSE
        RETURN memory;
    END CASE;
END
$$;
COMMENT ON FUNCTION allsource.move_step IS 'the part of es_move_partition between commits: looks at source and target, and does or records the next step; NULL: the move has ended';

CREATE PROCEDURE allsource.move_carry_on(partition_id int4, epoch int8)
LANGUAGE plpgsql
AS $$
DECLARE
    memory pg_catalog.jsonb := '{}';
BEGIN
    LOOP
        memory := allsource.move_look(partition_id, epoch, memory);
        COMMIT;
        memory := allsource.move_step(partition_id, epoch, memory);
        COMMIT;
        EXIT WHEN memory IS NULL;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE allsource.move_carry_on IS 'carries a move on until it has ended';

CREATE PROCEDURE allsource.es_move_partition(partition_id int4, group_id int4)
LANGUAGE plpgsql
AS $$
DECLARE
    epoch bigint;
BEGIN
    PERFORM allsource.outside_transactions('es_move_partition');
    epoch := allsource.move_begin(partition_id, group_id);
    COMMIT;
    IF epoch IS NOT NULL THEN
        CALL allsource.move_carry_on(partition_id, epoch);
    END IF;
END
$$;
COMMENT ON PROCEDURE allsource.es_move_partition IS 'moves a partition to another group while it is written to, or carries on with that; returns when the move has ended';

CREATE FUNCTION allsource.move_abandoned() RETURNS TABLE (
    partition_id int4,
    epoch        int8,
    started_by   text
)
LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.partition_id, v.epoch, v.started_by
      FROM allsource.partition_moves v
     WHERE v.ended_at IS NULL
       -- While nobody can write, or enqueue, it is urgent. Comparing takes long, and nobody looks meanwhile, but there
       -- is a lock; see move_step.
       AND v.looked_at < clock_timestamp()
                       - CASE WHEN v.phase IN ('checked', 'fenced', 'replayed', 'compared', 'raised', 'refusing', 'returning') THEN interval '1 second'
                              ELSE interval '5 seconds' END
                       * CASE WHEN v.error IS NULL THEN 1 ELSE 3 END
       AND pg_try_advisory_xact_lock('allsource.partition_moves'::regclass::oid::int4, v.partition_id)
     ORDER BY v.looked_at
$$;
COMMENT ON FUNCTION allsource.move_abandoned IS 'moves that nobody carries on, for the coordinator''s process';

CREATE FUNCTION allsource.es_move_cancel(partition_id int4) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moving allsource.partition_moves;
    back   text;
BEGIN
    PERFORM allsource.check_coordinator();
    IF partition_id IS NULL THEN
        RAISE EXCEPTION 'partition_id must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT * INTO moving FROM allsource.partition_moves v
     WHERE v.partition_id = es_move_cancel.partition_id AND v.ended_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'partition % is not being moved', partition_id USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    back := allsource.move_turn_back(moving, 'it was cancelled');
    IF back IS NULL THEN
        RAISE EXCEPTION 'partition % belongs to group % already', partition_id, moving.target_id
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    DETAIL = format('The move is in phase "%s", and only goes on.', moving.phase);
    END IF;
    RETURN back;
END
$$;
COMMENT ON FUNCTION allsource.es_move_cancel IS 'lets a move go back, and returns the phase in which it does so; who carries the move on does the rest';

CREATE FUNCTION allsource.es_moves() RETURNS TABLE (
    partition_id int4,
    epoch        int8,
    source_id    int4,
    target_id    int4,
    phase        text,
    copied_bytes int8,
    copied_runs  int8,
    lag_bytes    int8,
    fence_time   interval,
    started_at   timestamptz,
    looked_at    timestamptz,
    ended_at     timestamptz,
    setback      text,
    error        text
)
LANGUAGE sql VOLATILE PARALLEL SAFE SECURITY DEFINER ROWS 32
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.partition_id, v.epoch, v.source_id, v.target_id, v.phase, v.copied_bytes, v.copied_runs, v.lag_bytes,
           CASE WHEN v.fence_began_at IS NOT NULL THEN COALESCE(v.fence_ended_at, clock_timestamp()) - v.fence_began_at END,
           v.started_at, v.looked_at, v.ended_at, v.setback, v.error
      FROM allsource.partition_moves v
     ORDER BY v.started_at DESC
$$;
COMMENT ON FUNCTION allsource.es_moves IS 'a row for each move, the newest first: how far it has come, how long nobody could write the partition, and what it waits for';
