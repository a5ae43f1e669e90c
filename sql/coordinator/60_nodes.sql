-- How the nodes are, and what is wrong. Whether a node lives is for those to say who keep the groups alive; here they
-- are asked.

CREATE FUNCTION allsource.conninfo_values(conninfo text, key text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- As in libpq, the last one counts.
    SELECT string_to_array(regexp_replace(CASE WHEN p.part[2] LIKE '''%' THEN substr(p.part[2], 2, length(p.part[2]) - 2) ELSE p.part[2] END,
                                          '\\(.)', '\1', 'g'), ',')
      FROM regexp_matches(conninfo, '([a-z_]+)\s*=\s*(''(?:[^''\\]|\\.)*''|(?:[^\s''\\]|\\.)+)', 'g') WITH ORDINALITY AS p (part, i)
     WHERE p.part[1] = key
     ORDER BY p.i DESC
     LIMIT 1;
END;
COMMENT ON FUNCTION allsource.conninfo_values IS 'the values of a key of a connection string, of which it may name several';

CREATE FUNCTION allsource.cluster_nodes() RETURNS TABLE (
    group_id int4,
    node     text,
    conninfo text
)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 8
BEGIN ATOMIC
    SELECT g.group_id,
           concat_ws(':', COALESCE(NULLIF(h.host, ''), h.address, 'local'), h.port),
           concat_ws(' ', g.conninfo, 'host=' || allsource.link_quote(h.host), 'hostaddr=' || allsource.link_quote(h.address), 'port=' || allsource.link_quote(h.port))
      FROM allsource.cluster_groups g
     CROSS JOIN LATERAL (SELECT allsource.conninfo_values(g.conninfo, 'host') AS hosts, allsource.conninfo_values(g.conninfo, 'hostaddr') AS addresses,
                                allsource.conninfo_values(g.conninfo, 'port') AS ports) AS v
     CROSS JOIN LATERAL generate_series(1, GREATEST(cardinality(v.hosts), cardinality(v.addresses), 1)) AS i
     CROSS JOIN LATERAL (SELECT v.hosts[i] AS host, v.addresses[i] AS address,
                                CASE WHEN cardinality(v.ports) = 1 THEN v.ports[1] ELSE v.ports[i] END AS port) AS h;
END;
COMMENT ON FUNCTION allsource.cluster_nodes IS 'the nodes that the groups'' connection strings name, and how to connect to each';

CREATE FUNCTION allsource.nodes_look() RETURNS TABLE (
    group_id int4,
    node     text,
    answer   jsonb,
    problem  text
)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 8
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    group_ids int4[];
    names     text[];
    conninfos text[];
    whom      text[];
    answers   allsource.node_answer[];
BEGIN
    IF NOT EXISTS (SELECT FROM allsource.cluster_groups) THEN
        RETURN;
    END IF;
    SELECT array_agg(n.group_id ORDER BY n.group_id, n.node), array_agg(n.node ORDER BY n.group_id, n.node),
           array_agg(allsource.node_conninfo(n.conninfo, 'any') ORDER BY n.group_id, n.node),
           array_agg('node ' || n.node ORDER BY n.group_id, n.node)
      INTO group_ids, names, conninfos, whom
      FROM allsource.cluster_nodes() AS n;
    answers := allsource.nodes_ask(whom, conninfos, array_fill(
        'SELECT to_jsonb(s) || jsonb_build_object(''owners'', (SELECT COALESCE(jsonb_agg(o), ''[]'') FROM allsource.partition_owners o)) FROM allsource.es_member_status() AS s'::text,
        ARRAY[cardinality(whom)]), 5000);
    -- There may be many of them.
    PERFORM allsource.link_close(allsource.link_name(w.node)) FROM unnest(whom) AS w (node);
    RETURN QUERY
    SELECT n.group_id, n.node,
           a.answer || jsonb_build_object('lag_bytes', GREATEST(
               max((a.answer ->> 'lsn')::pg_lsn) FILTER (WHERE NOT (a.answer ->> 'is_standby')::bool) OVER (PARTITION BY n.group_id)
               - (a.answer ->> 'lsn')::pg_lsn, 0)),
           a.problem
      FROM unnest(group_ids, names) WITH ORDINALITY AS n (group_id, node, i)
      JOIN unnest(answers) WITH ORDINALITY AS a (answer, code, problem, i) ON a.i = n.i
     ORDER BY n.i;
END
$$;
COMMENT ON FUNCTION allsource.nodes_look IS 'asks all nodes side by side how they are, and how far each is behind its primary; those that have not answered within 5 s have no answer, but a problem';

CREATE FUNCTION allsource.es_nodes() RETURNS TABLE (
    group_id       int4,
    node           text,
    role           text,
    is_reachable   bool,
    is_synchronous bool,
    lag_bytes      int8,
    node_id        int4,
    version        text,
    server_version text,
    error          text
)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 8
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT n.group_id, n.node,
           CASE (n.answer ->> 'is_standby')::bool WHEN true THEN 'standby' WHEN false THEN 'primary' END,
           n.answer IS NOT NULL,
           CASE WHEN NOT (n.answer ->> 'is_standby')::bool THEN (n.answer ->> 'is_synchronous')::bool END,
           CASE WHEN (n.answer ->> 'is_standby')::bool THEN (n.answer ->> 'lag_bytes')::int8 END,
           (n.answer ->> 'node_id')::int4, n.answer ->> 'version', n.answer ->> 'server_version', n.problem
      FROM allsource.nodes_look() AS n;
END
$$;
COMMENT ON FUNCTION allsource.es_nodes IS 'a row for each node of each group: what it is, whether it answers, whether a standby confirms what its primary commits, how far it is behind, or why it was not reached';

CREATE FUNCTION allsource.cluster_findings(cluster json) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cluster_findings';
COMMENT ON FUNCTION allsource.cluster_findings IS 'what is wrong with a cluster, as a JSON array of sentences, from the coordinator''s tables and what the nodes have told';

CREATE FUNCTION allsource.cluster_health() RETURNS TABLE (
    name   text,
    ok     bool,
    detail text
)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 2
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cluster  json;
    findings text[];
    groups   int8;
BEGIN
    SELECT count(*) INTO groups FROM allsource.cluster_groups;
    IF groups = 0 THEN
        RETURN;
    END IF;
    BEGIN
        PERFORM allsource.check_coordinator();
    EXCEPTION
        WHEN object_not_in_prerequisite_state THEN
            RETURN QUERY SELECT 'cluster', false, SQLERRM;
            RETURN;
    END;
    WITH "group" AS (
        SELECT n.group_id,
               json_agg(json_build_object('name', n.node, 'answer', n.answer)) AS nodes,
               (array_agg(n.answer -> 'owners') FILTER (WHERE NOT (n.answer ->> 'is_standby')::bool))[1] AS owners
          FROM allsource.nodes_look() AS n
         GROUP BY n.group_id
    )
    SELECT json_build_object(
               'groups', (SELECT json_agg(g ORDER BY g.group_id) FROM "group" g),
               'partitions', (SELECT COALESCE(json_agg(json_build_object('partition_id', m.partition_id, 'group_id', m.group_id, 'epoch', m.epoch, 'phase', v.phase,
                                  'idle_seconds', extract(epoch FROM clock_timestamp() - v.looked_at)::int8) ORDER BY m.partition_id), '[]')
                                FROM allsource.cluster_map m
                                LEFT JOIN allsource.partition_moves v ON v.partition_id = m.partition_id AND v.ended_at IS NULL),
               'lag_bytes_max', 16 * 1024 * 1024,
               'idle_seconds_max', 60)
      INTO cluster;
    SELECT array_agg(f.finding) INTO findings FROM json_array_elements_text(allsource.cluster_findings(cluster)::json) AS f (finding);
    IF (SELECT count(*) FROM allsource.cluster_map) < 32 THEN
        findings := findings || 'the map is not complete: add the groups that own the rest'::text;
    END IF;
    IF findings IS NULL THEN
        RETURN QUERY SELECT 'cluster', true, groups || ' groups are well, and own all partitions';
    ELSE
        RETURN QUERY SELECT 'cluster', false, f.finding FROM unnest(findings) AS f (finding);
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.cluster_health IS 'the rows of es_health about the cluster, on its coordinator: one for each thing that is wrong';

CREATE FUNCTION allsource.es_health() RETURNS TABLE (
    name   text,
    ok     bool,
    detail text
)
LANGUAGE sql VOLATILE PARALLEL UNSAFE COST 10000 ROWS 9
BEGIN ATOMIC
    SELECT s.name, s.ok, s.detail FROM allsource.server_health() AS s
     UNION ALL
    SELECT c.name, c.ok, c.detail FROM allsource.cluster_health() AS c;
END;
COMMENT ON FUNCTION allsource.es_health IS 'a row for each check: what was checked, whether it is ok, and the facts; on a coordinator, also what is wrong with the cluster';
