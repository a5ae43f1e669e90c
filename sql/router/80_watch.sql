-- Health and metrics. A group that does not answer is a finding here and no error; it is waited for once.

CREATE FUNCTION allsource.es_health() RETURNS TABLE (
    name   text,
    ok     bool,
    detail text
)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 50
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    version   CONSTANT text := (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'allsource_router');
    asked     record;
    owned     int8;
    unknown   text;
    whose     text;
    member    int4;
    known     text;
    different text;
    i         int4;
BEGIN
    SELECT count(*), string_agg(DISTINCT r.group_id::text, ', ') FILTER (WHERE g.group_id IS NULL)
      INTO owned, unknown FROM allsource.routes r LEFT JOIN allsource.router_groups g ON g.group_id = r.group_id;
    RETURN QUERY SELECT 'map', owned = 32 AND unknown IS NULL,
                        owned || ' of 32 partitions have an owner' || COALESCE('; not known how to connect to group ' || unknown, '');
    RETURN QUERY SELECT 'coordinator', allsource.router_learn(false) IS NOT NULL,
                        'whether the map could be read from it now; without it the router goes on with the map that it has';
    asked := allsource.router_look(
        'SELECT h.name, h.ok, h.detail, NULL::pg_catalog.text, NULL::pg_catalog.int4, NULL::pg_catalog.jsonb FROM allsource.es_health() AS h '
        'UNION ALL SELECT NULL, NULL, NULL, '
        '(SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = ''allsource''), '
        '(SELECT m.group_id FROM allsource.cluster_member m), '
        '(SELECT pg_catalog.jsonb_object_agg(o.partition_id, o.epoch) FROM allsource.partition_owners o WHERE o.state <> ''foreign'')');
    FOR i IN 1 .. cardinality(asked.group_ids) LOOP
        whose := 'group ' || asked.group_ids[i];
        RETURN QUERY SELECT whose, asked.names[i] IS NOT NULL, COALESCE(asked.reasons[i], 'Its primary answers.');
        CONTINUE WHEN asked.names[i] IS NULL;
        FOR name, ok, detail, known, member, different IN
            SELECT r.name, r.ok, r.detail, r.version, r.group_id, d.partitions
              FROM allsource.link_result(asked.names[i])
                AS r (name text, ok bool, detail text, version text, group_id int4, owns jsonb)
             CROSS JOIN LATERAL (
                   SELECT string_agg(p.id::text, ', ' ORDER BY p.id) AS partitions
                     FROM generate_series(0, 31) AS p (id)
                     LEFT JOIN allsource.routes m ON m.partition_id = p.id AND m.group_id = asked.group_ids[i]
                    WHERE r.name IS NULL AND m.epoch IS DISTINCT FROM (r.owns ->> p.id::text)::int8) AS d
        LOOP
            IF name IS NOT NULL THEN
                name := whose || ': ' || name;
                RETURN NEXT;
                CONTINUE;
            END IF;
            name := whose || ': version';
            ok := known IS NOT DISTINCT FROM version;
            detail := 'It has allsource ' || COALESCE(known, 'of no known version') || CASE WHEN ok THEN ', as this router.' ELSE '; this router has ' || version || '.' END;
            RETURN NEXT;
            name := whose || ': map';
            ok := member IS NOT DISTINCT FROM asked.group_ids[i] AND different IS NULL;
            detail := CASE WHEN member IS NULL THEN 'It has never been told of a map, and writes all partitions.'
                           WHEN member <> asked.group_ids[i] THEN 'It is a member of group ' || member || '.'
                           WHEN different IS NULL THEN 'It owns what the map of this router says.'
                           ELSE 'This router and the group differ about the owner or the epoch of partition ' || different || '.' END;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION allsource.es_health IS 'a row for each check of the router and of each group: what was checked, whether it is ok, and the facts';

CREATE FUNCTION allsource.es_metrics() RETURNS TABLE (
    name   text,
    labels jsonb,
    value  float8
)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 500
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked record;
    i     int4;
BEGIN
    asked := allsource.router_look('SELECT * FROM allsource.es_metrics()');
    FOR i IN 1 .. cardinality(asked.group_ids) LOOP
        RETURN QUERY SELECT 'allsource_router_group_up', jsonb_build_object('group', asked.group_ids[i]::text),
                            (asked.names[i] IS NOT NULL)::int4::float8;
        IF asked.names[i] IS NOT NULL THEN
            RETURN QUERY
            SELECT r.name, r.labels || jsonb_build_object('group', asked.group_ids[i]::text), r.value
              FROM allsource.link_result(asked.names[i]) AS r (name text, labels jsonb, value float8);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION allsource.es_metrics IS 'the metrics of all groups, with the label group; allsource_router_group_up says whether a group has answered';

CREATE VIEW allsource.metrics WITH (security_invoker = true) AS SELECT * FROM allsource.es_metrics();
COMMENT ON VIEW allsource.metrics IS 'the metrics of all groups, with the label group; allsource_router_group_up says whether a group has answered';

CREATE FUNCTION allsource.es_metrics_prometheus() RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked   record;
    answer  text;
    answers text[] := '{}';
    i       int4;
BEGIN
    asked := allsource.router_look('SELECT allsource.es_metrics_prometheus()');
    FOR i IN 1 .. cardinality(asked.group_ids) LOOP
        answer := NULL;
        IF asked.names[i] IS NOT NULL THEN
            SELECT r.answer INTO answer FROM allsource.link_result(asked.names[i]) AS r (answer text);
        END IF;
        answers := answers || format(E'# HELP allsource_router_group_up Whether the group has answered the router.\n'
                                     '# TYPE allsource_router_group_up gauge\nallsource_router_group_up %s\n%s',
                                     (answer IS NOT NULL)::int4, answer);
    END LOOP;
    -- The lines of a metric, of all groups, have to follow its HELP and TYPE, which may be there once only.
    RETURN (
        WITH family AS (
            SELECT asked.group_ids[a.i] AS group_id, f.ordinal, substring(f.lines, '^# HELP (\S+)') AS metric, f.lines
              FROM unnest(answers) WITH ORDINALITY AS a (answer, i)
             CROSS JOIN LATERAL regexp_split_to_table(a.answer, '(?=# HELP )', 'n') WITH ORDINALITY AS f (lines, ordinal)
             WHERE f.lines LIKE '# HELP %'
        ), line AS (
            SELECT f.metric, f.group_id, f.ordinal, l.n, l.line
              FROM family f
             CROSS JOIN LATERAL string_to_table(f.lines, E'\n') WITH ORDINALITY AS l (line, n)
             WHERE l.line <> ''
        ), headed AS (
            SELECT l.metric, min(l.ordinal) AS place,
                   (array_agg(h.head ORDER BY l.group_id))[1] AS head,
                   string_agg(regexp_replace(CASE WHEN l.line LIKE '%{%' THEN l.line ELSE regexp_replace(l.line, '^(\S+)', '\1{}') END,
                                             '\{(.?)', format('{group="%s"', l.group_id) || '\1', ''), E'\n' ORDER BY l.group_id, l.n) AS body
              FROM line l
             CROSS JOIN LATERAL (SELECT string_agg(o.line, E'\n' ORDER BY o.n) AS head FROM line o
                                  WHERE o.metric = l.metric AND o.group_id = l.group_id AND o.line LIKE '#%') AS h
             WHERE l.line NOT LIKE '#%'
             GROUP BY l.metric
        )
        SELECT string_agg(h.head || E'\n' || h.body || E'\n', '' ORDER BY h.place, h.metric) FROM headed h
    );
END
$$;
COMMENT ON FUNCTION allsource.es_metrics_prometheus IS 'the metrics of all groups in the text format of Prometheus, with the label group';
