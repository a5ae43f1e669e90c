-- Health and metrics. A group that does not answer is a finding here and no error; it is waited for once.

CREATE FUNCTION allsource.es_health() RETURNS TABLE (
    name   text,
    ok     bool,
    detail text
)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER COST 10000 ROWS 20
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    group_ids CONSTANT int4[] := allsource.router_group_ids();
    owned     int8;
    unknown   text;
    names     text[];
    i         int4;
BEGIN
    SELECT count(*), string_agg(DISTINCT r.group_id::text, ', ') FILTER (WHERE r.group_id <> ALL (group_ids))
      INTO owned, unknown FROM allsource.routes r;
    RETURN QUERY SELECT 'map', owned = 32 AND unknown IS NULL,
                        owned || ' of 32 partitions have an owner' || COALESCE('; not known how to connect to group ' || unknown, '');
    RETURN QUERY SELECT 'coordinator', allsource.router_learn(false) IS NOT NULL,
                        'whether the map could be read from it now; without it the router goes on with the map that it has';
    names := allsource.router_ask_all('SELECT * FROM allsource.es_health()', allsource.router_timeout_ms(), true);
    FOR i IN 1 .. cardinality(group_ids) LOOP
        RETURN QUERY SELECT 'group ' || group_ids[i], names[i] IS NOT NULL,
                            CASE WHEN names[i] IS NULL THEN 'its primary does not answer, or not this user' ELSE 'its primary answers' END;
        IF names[i] IS NOT NULL THEN
            RETURN QUERY
            SELECT format('group %s: %s', group_ids[i], r.name), r.ok, r.detail
              FROM allsource.link_result(names[i]) AS r (name text, ok bool, detail text);
        END IF;
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
    group_ids CONSTANT int4[] := allsource.router_group_ids();
    names     text[];
    i         int4;
BEGIN
    names := allsource.router_ask_all('SELECT * FROM allsource.es_metrics()', allsource.router_timeout_ms(), true);
    FOR i IN 1 .. cardinality(group_ids) LOOP
        RETURN QUERY SELECT 'allsource_router_group_up', jsonb_build_object('group', group_ids[i]::text), (names[i] IS NOT NULL)::int4::float8;
        IF names[i] IS NOT NULL THEN
            RETURN QUERY
            SELECT r.name, r.labels || jsonb_build_object('group', group_ids[i]::text), r.value
              FROM allsource.link_result(names[i]) AS r (name text, labels jsonb, value float8);
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
    group_ids CONSTANT int4[] := allsource.router_group_ids();
    names     text[];
    answer    text;
    answers   text[] := '{}';
    i         int4;
BEGIN
    names := allsource.router_ask_all('SELECT allsource.es_metrics_prometheus()', allsource.router_timeout_ms(), true);
    FOR i IN 1 .. cardinality(group_ids) LOOP
        answer := NULL;
        IF names[i] IS NOT NULL THEN
            SELECT r.answer INTO answer FROM allsource.link_result(names[i]) AS r (answer text);
        END IF;
        answers := answers || format(E'# HELP allsource_router_group_up Whether the group has answered the router.\n'
                                     '# TYPE allsource_router_group_up gauge\nallsource_router_group_up %s\n%s',
                                     (answer IS NOT NULL)::int4, answer);
    END LOOP;
    -- The lines of a metric, of all groups, have to follow its HELP and TYPE, which may be there once only.
    RETURN (
        WITH family AS (
            SELECT group_ids[a.i] AS group_id, f.ordinal, substring(f.lines, '^# HELP (\S+)') AS metric, f.lines
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
