-- Which partitions should move where.

CREATE FUNCTION allsource.plan_moves(groups json, places json) RETURNS TABLE (
    partition_id int4,
    source_id    int4,
    target_id    int4,
    reason       text
)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 16
AS 'MODULE_PATHNAME', 'plan_moves';
COMMENT ON FUNCTION allsource.plan_moves IS 'the fewest moves that bring every group to its share';

CREATE FUNCTION allsource.plan_shares(groups json, places json) RETURNS TABLE (
    group_id int4,
    share    int4
)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 4
AS 'MODULE_PATHNAME', 'plan_shares';
COMMENT ON FUNCTION allsource.plan_shares IS 'how many partitions each group should have';

CREATE VIEW allsource.cluster_places WITH (security_invoker = true) AS
SELECT (SELECT json_agg(json_build_object('group_id', g.group_id, 'weight', g.weight) ORDER BY g.group_id)
          FROM allsource.cluster_groups g WHERE g.joined_at IS NOT NULL) AS groups,
       (SELECT json_agg(json_build_object('group_id', COALESCE(v.target_id, m.group_id), 'is_moving', v.target_id IS NOT NULL) ORDER BY m.partition_id)
          FROM allsource.cluster_map m
          LEFT JOIN allsource.partition_moves v ON v.partition_id = m.partition_id AND v.ended_at IS NULL
        HAVING count(*) = 32) AS places;
COMMENT ON VIEW allsource.cluster_places IS 'what the plan is made from: groups with their weights, and where each partition is, or is being moved to';

CREATE FUNCTION allsource.es_rebalance_plan() RETURNS TABLE (
    partition_id int4,
    source_id    int4,
    target_id    int4,
    reason       text
)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER ROWS 16
BEGIN ATOMIC
    SELECT m.partition_id, m.source_id, m.target_id, m.reason
      FROM allsource.cluster_places c
     CROSS JOIN LATERAL allsource.plan_moves(c.groups, c.places) AS m;
END;
COMMENT ON FUNCTION allsource.es_rebalance_plan IS 'what es_rebalance would move where, and why; changes nothing';

CREATE FUNCTION allsource.es_groups() RETURNS TABLE (
    group_id    int4,
    weight      int4,
    partitions  int8,
    share       int4,
    moving_here int8,
    moving_away int8,
    added_at    timestamptz,
    joined_at   timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER ROWS 4
BEGIN ATOMIC
    SELECT g.group_id, g.weight,
           (SELECT count(*) FROM allsource.cluster_map m WHERE m.group_id = g.group_id),
           s.share,
           (SELECT count(*) FROM allsource.partition_moves v WHERE v.target_id = g.group_id AND v.ended_at IS NULL),
           (SELECT count(*) FROM allsource.partition_moves v WHERE v.source_id = g.group_id AND v.ended_at IS NULL),
           g.added_at, g.joined_at
      FROM allsource.cluster_groups g
      LEFT JOIN (SELECT p.group_id, p.share FROM allsource.cluster_places c
                  CROSS JOIN LATERAL allsource.plan_shares(c.groups, c.places) AS p) AS s ON s.group_id = g.group_id
     ORDER BY g.group_id;
END;
COMMENT ON FUNCTION allsource.es_groups IS 'a row for each group: its weight, how many partitions it owns, and how many it should';

CREATE FUNCTION allsource.rebalance_begin(
    begun            int4,
    max_moves        int4,
    OUT partition_id int4,
    OUT epoch        int8,
    OUT now_begun    int4
)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    target_id int4;
BEGIN
    IF max_moves < 0 THEN
        RAISE EXCEPTION 'max_moves must not be negative' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    now_begun := begun;
    SELECT v.partition_id, v.epoch INTO partition_id, epoch FROM allsource.partition_moves v
     WHERE v.ended_at IS NULL ORDER BY v.started_at LIMIT 1;
    IF NOT FOUND AND (max_moves IS NULL OR begun < max_moves) THEN
        SELECT p.partition_id, p.target_id INTO partition_id, target_id FROM allsource.es_rebalance_plan() AS p LIMIT 1;
        IF FOUND THEN
            epoch := allsource.move_begin(partition_id, target_id);
            now_begun := begun + 1;
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.rebalance_begin IS 'the next move of es_rebalance: one that is under way, which does not count, or a new one; epoch NULL: there is none';

CREATE PROCEDURE allsource.es_rebalance(max_moves int4 DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    begun        integer := 0;
    partition_id integer;
    epoch        bigint;
BEGIN
    PERFORM allsource.outside_transactions('es_rebalance');
    LOOP
        SELECT b.partition_id, b.epoch, b.now_begun INTO partition_id, epoch, begun FROM allsource.rebalance_begin(begun, max_moves) AS b;
        COMMIT;
        EXIT WHEN epoch IS NULL;
        CALL allsource.move_carry_on(partition_id, epoch);
    END LOOP;
END
$$;
COMMENT ON PROCEDURE allsource.es_rebalance IS 'carries on with moves that are under way, and then moves partitions, one by one, until every group has its share';
