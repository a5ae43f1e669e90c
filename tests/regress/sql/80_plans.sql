-- A stream's events are found by the indexes, through the view as well.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- Enough rows, and statistics, to choose by: 8,000 streams of three runs.
SELECT sum(b.last_version - b.first_version + 1) AS events
  FROM generate_series(1, 3) AS i, LATERAL (
           SELECT * FROM allsource.es_append_batch(
               (SELECT array_agg('plans/s-' || s) FROM generate_series(1, 8000) AS s),
               array_fill('x'::text, ARRAY[8000]), array_fill(to_jsonb(i), ARRAY[8000]))
       ) AS b;
ANALYZE allsource.event_streams;
ANALYZE allsource.event_log;
CREATE FUNCTION pg_temp.seq_scans(statement text) RETURNS bigint
LANGUAGE sql RETURN (SELECT count(*) FROM pg_temp.scans(statement) AS scan WHERE scan LIKE '%Seq%');
SELECT pg_temp.seq_scans($$SELECT * FROM allsource.events WHERE stream_id = 'plans/s-7'$$);
SELECT pg_temp.seq_scans($$SELECT payload FROM allsource.events WHERE stream_id = 'plans/s-7' AND tenant_id = 'default' AND version = 2$$);
SELECT pg_temp.seq_scans($$SELECT * FROM allsource.events WHERE stream_id = 'plans/s-7' ORDER BY version DESC LIMIT 1$$);
SELECT pg_temp.seq_scans($$SELECT * FROM allsource.events WHERE stream_id = 'plans/s-7' AND partition_id = allsource.es_partition('plans/s-7')$$);
SET plan_cache_mode = force_generic_plan;
PREPARE stream(text) AS SELECT * FROM allsource.events WHERE stream_id = $1;
SELECT pg_temp.seq_scans($$EXECUTE stream('plans/s-7')$$);
RESET plan_cache_mode;
-- A condition on the partition leaves the others out of the plan; without one, their logs are not looked into.
CREATE FUNCTION pg_temp.leaves_read(statement text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || statement LOOP
        IF line ~ ' on event_log_p\d\d ' AND line !~ 'never executed' THEN
            RETURN NEXT substring(line FROM 'event_log_p\d\d');
        END IF;
    END LOOP;
END
$$;
SELECT allsource.es_partition('plans/s-7');
SELECT pg_temp.leaves_read($$SELECT * FROM allsource.events WHERE stream_id = 'plans/s-7'$$);
SELECT count(*) FROM pg_temp.leaves_read($$SELECT * FROM allsource.events WHERE stream_id = 'plans/none'$$);
SELECT pg_temp.leaves_read($$SELECT count(*) FROM allsource.events WHERE partition_id = 20$$);
