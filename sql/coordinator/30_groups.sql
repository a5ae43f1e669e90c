-- Groups that join and leave. A group joins with the map; so that no two groups are ever told that they own
-- everything, the map is durable before the first one is told: es_group_add is a procedure that commits in between.

CREATE FUNCTION allsource.owners_besides(new_id int4, owners jsonb) RETURNS TABLE (
    partition_id int4,
    group_id     int4,
    epoch        int8
)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 32
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    other int4;
BEGIN
    -- Of those whom the map would take something from.
    FOR other IN
        SELECT DISTINCT m.group_id
          FROM allsource.cluster_map m
          JOIN jsonb_to_recordset(owners) AS o (partition_id int4, state text, epoch int8) ON o.partition_id = m.partition_id
         WHERE m.group_id <> new_id AND o.state <> 'foreign' AND m.epoch < o.epoch
    LOOP
        RETURN QUERY
        SELECT o.partition_id, other, o.epoch
          FROM jsonb_to_recordset(allsource.group_call(other,
                   'SELECT COALESCE(jsonb_agg(o), ''[]'') FROM allsource.partition_owners AS o', 10000)) AS o (partition_id int4, state text, epoch int8)
         WHERE o.state = 'owned';
    END LOOP;
END
$$;
COMMENT ON FUNCTION allsource.owners_besides IS 'what other groups own by their own account, of whose partitions a group that is added has a newer epoch';

CREATE FUNCTION allsource.group_begin(group_id int4, conninfo text, weight int4) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    new_id CONSTANT int4 := group_begin.group_id;
    told   jsonb;
    known  int8;
    claim  record;
BEGIN
    PERFORM allsource.check_coordinator();
    IF new_id IS NULL OR conninfo IS NULL OR weight IS NULL THEN
        RAISE EXCEPTION 'group_id, conninfo and weight must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF new_id NOT BETWEEN 0 AND 4095 THEN
        RAISE EXCEPTION 'group_id must be from 0 to 4095, not %', new_id USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF weight NOT BETWEEN 0 AND 1000 THEN
        RAISE EXCEPTION 'weight must be from 0 to 1000, not %', weight USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- One at a time: two first groups would both own everything.
    LOCK TABLE allsource.cluster_groups IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO allsource.cluster_groups AS g (group_id, conninfo, weight, added_at, database_id)
    SELECT new_id, conninfo, weight, clock_timestamp(), d.oid FROM pg_database d WHERE d.datname = current_database()
        ON CONFLICT (group_id) DO UPDATE SET conninfo = excluded.conninfo, weight = excluded.weight;
    -- A connection to its former address must not be used.
    PERFORM allsource.link_close(allsource.link_name('group ' || new_id));
    told := allsource.group_call(new_id,
        'SELECT to_jsonb(s) || jsonb_build_object(''owners'', (SELECT jsonb_agg(o) FROM allsource.partition_owners o)) '
        'FROM allsource.es_member_status() AS s', 10000);
    IF (told ->> 'node_id')::int4 <> new_id THEN
        RAISE EXCEPTION 'allsource.node_id of group % is %', new_id, told ->> 'node_id'
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'It must be the number of the group on all of its nodes. Streams have it in their numbers.';
    END IF;
    IF (told ->> 'group_id')::int4 <> new_id THEN
        RAISE EXCEPTION 'this database is a member of group % already', told ->> 'group_id'
              USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT count(*) INTO known FROM allsource.cluster_map;
    IF told ->> 'group_id' IS NOT NULL THEN
        -- It has joined before: what it owns counts more than what a map says that is older. But there is one owner.
        SELECT c.partition_id, c.group_id, c.epoch INTO claim
          FROM jsonb_to_recordset(told -> 'owners') AS o (partition_id int4, state text, epoch int8)
          JOIN (SELECT m.partition_id, m.group_id, m.epoch, m.epoch AS map_epoch FROM allsource.cluster_map m
                UNION ALL
                SELECT r.partition_id, r.group_id, r.epoch, NULL FROM allsource.owners_besides(new_id, told -> 'owners') AS r) AS c
            ON c.partition_id = o.partition_id AND c.group_id <> new_id
         WHERE o.state = 'owned' AND (c.map_epoch IS NULL OR c.map_epoch >= o.epoch)
         LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'group % has partition %, which belongs to group %', new_id, claim.partition_id, claim.group_id
                  USING ERRCODE = 'object_not_in_prerequisite_state',
                        DETAIL = format('Group %s has it since epoch %s.', claim.group_id, claim.epoch),
                        HINT = 'One of them was restored from a backup, or became a member when the map was lost. Decide which one is right before anybody writes.';
        END IF;
        INSERT INTO allsource.cluster_map AS m (partition_id, group_id, epoch)
        SELECT (o ->> 'partition_id')::int4, new_id, (o ->> 'epoch')::int8
          FROM jsonb_array_elements(told -> 'owners') AS o
         WHERE o ->> 'state' <> 'foreign'
            ON CONFLICT (partition_id) DO UPDATE SET group_id = excluded.group_id, epoch = excluded.epoch
         WHERE m.epoch < excluded.epoch;
    ELSIF known = 0 THEN
        INSERT INTO allsource.cluster_map (partition_id, group_id, epoch)
        SELECT p.id, new_id, 1 FROM generate_series(0, 31) AS p (id);
    ELSIF known < 32 THEN
        RAISE EXCEPTION 'the owners of % partitions are not known', 32 - known
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Add the groups that own them first.';
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.group_begin IS 'the part of es_group_add before its commit: what is recorded';

CREATE FUNCTION allsource.group_join(group_id int4) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    new_id CONSTANT int4 := group_join.group_id;
    owners int4[];
    epochs int8[];
    others int4[];
    answer allsource.node_answer;
BEGIN
    PERFORM allsource.check_coordinator();
    LOCK TABLE allsource.cluster_groups IN SHARE ROW EXCLUSIVE MODE;
    -- The map must be durable, and confirmed by the standby, whoever wrote it and however that ended.
    SELECT array_agg(m.group_id ORDER BY m.partition_id), array_agg(m.epoch ORDER BY m.partition_id)
      INTO owners, epochs FROM allsource.cluster_map m;
    IF cardinality(owners) IS DISTINCT FROM 32 THEN
        RETURN;
    END IF;
    PERFORM allsource.group_call(new_id,
        format('SELECT to_jsonb(allsource.es_member_join(%s, %L, %L)::text)', new_id, owners, epochs), 30000);
    UPDATE allsource.cluster_groups g SET joined_at = COALESCE(g.joined_at, clock_timestamp()) WHERE g.group_id = new_id;
    -- Those that were added before the map was complete. Who does not answer has to be added again.
    SELECT array_agg(g.group_id) INTO others FROM allsource.cluster_groups g WHERE g.joined_at IS NULL;
    IF others IS NOT NULL THEN
        FOR i IN 1 .. cardinality(others) LOOP
            answer := (allsource.groups_ask(others[i:i],
                ARRAY[format('SELECT to_jsonb(allsource.es_member_join(%s, %L, %L)::text)', others[i], owners, epochs)], 30000))[1];
            UPDATE allsource.cluster_groups g SET joined_at = clock_timestamp() WHERE g.group_id = others[i] AND answer.code IS NULL;
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.group_join IS 'the part of es_group_add after its commit: the group is told';

CREATE PROCEDURE allsource.es_group_add(group_id int4, conninfo text, weight int4 DEFAULT 1)
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM allsource.outside_transactions('es_group_add');
    PERFORM allsource.group_begin(group_id, conninfo, weight);
    COMMIT;
    PERFORM allsource.group_join(group_id);
END
$$;
COMMENT ON PROCEDURE allsource.es_group_add IS 'makes a database a group of the cluster, the first one as the owner of all partitions; repeated, it changes the connection string and the weight';

CREATE FUNCTION allsource.es_group_remove(group_id int4) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    old_id CONSTANT int4 := es_group_remove.group_id;
    owned  int8;
    groups int8;
    moved  int4;
    answer allsource.node_answer;
BEGIN
    PERFORM allsource.check_coordinator();
    LOCK TABLE allsource.cluster_groups IN SHARE ROW EXCLUSIVE MODE;
    -- Who begins a move to it has locked the row.
    PERFORM FROM allsource.cluster_groups g WHERE g.group_id = old_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no group %', old_id USING ERRCODE = 'undefined_object';
    END IF;
    SELECT count(*) FILTER (WHERE m.group_id = old_id) INTO owned FROM allsource.cluster_map m;
    SELECT count(*) INTO groups FROM allsource.cluster_groups;
    IF owned > 0 AND groups > 1 THEN
        RAISE EXCEPTION 'group % owns % partitions', old_id, owned
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Set its weight to 0 with es_group_add and call es_rebalance.';
    END IF;
    SELECT v.partition_id INTO moved FROM allsource.partition_moves v
     WHERE v.ended_at IS NULL AND old_id IN (v.source_id, v.target_id) LIMIT 1;
    IF moved IS NOT NULL THEN
        RAISE EXCEPTION 'partition % is being moved from or to group %', moved, old_id
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Call es_move_partition again to end it, or es_move_cancel.';
    END IF;
    answer := (allsource.groups_ask(ARRAY[old_id], ARRAY['SELECT to_jsonb(allsource.es_member_leave()::text)'], 30000))[1];
    IF answer.code ~ '^(08|57P)' AND owned = 0 THEN
        RAISE WARNING 'group % could not be told that it has been removed', old_id
              USING DETAIL = answer.problem, HINT = 'It writes nothing. Call es_member_leave() there before you use it for something else.';
    -- One that has left already is removed again.
    ELSIF answer.code IS NOT NULL AND answer.problem !~ 'not a member' THEN
        RAISE EXCEPTION '%', answer.problem USING ERRCODE = answer.code;
    END IF;
    PERFORM allsource.link_close(allsource.link_name('group ' || old_id));
    DELETE FROM allsource.cluster_map m WHERE m.group_id = old_id;
    DELETE FROM allsource.cluster_groups g WHERE g.group_id = old_id;
END
$$;
COMMENT ON FUNCTION allsource.es_group_remove IS 'removes a group that owns nothing from the cluster, or the last one, which is a single server then';
