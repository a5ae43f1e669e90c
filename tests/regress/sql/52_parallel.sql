-- In parallel workers: what is marked PARALLEL SAFE gives the same there, what is not stays with the leader.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_append_many('parallel/a', array_agg('x'::text), array_agg(to_jsonb(i) ORDER BY i)) FROM generate_series(1, 600) AS i;
SELECT allsource.es_append('parallel/b', 'x', '1');

SET force_parallel_mode = on;
CREATE FUNCTION pg_temp.is_parallel(statement text) RETURNS bool
LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
        IF line LIKE '%Gather%' THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;
SELECT name, pg_temp.is_parallel(format('SELECT * FROM allsource.%s', name)) AS parallel
  FROM unnest(ARRAY['es_read(''parallel/a'')', 'es_stream(''parallel/a'')', 'es_stream_watermark(''parallel/a'')', 'es_streams(0)',
                    'es_verify_gapless(''parallel/a'')', 'es_verify(0)', 'es_partition(''a'')',
                    'es_read_all()', 'es_safe_position()', 'es_create_stream(''parallel/a'')', 'es_append(''parallel/a'', ''x'', ''{}'')']) AS name;

SELECT count(*), min(version), max(version), bool_and(payload = to_jsonb(version)) AS same FROM allsource.es_read('parallel/a');
SELECT version FROM allsource.es_read('parallel/a', 300, 2, true);
SELECT current_version FROM allsource.es_stream('parallel/a');
SELECT allsource.es_stream_watermark('parallel/a'), allsource.es_verify_gapless('parallel/a');
SELECT stream_id FROM allsource.es_streams(allsource.es_partition('parallel/b')) WHERE stream_id = 'parallel/b';
SELECT count(*) FROM allsource.es_verify(stream_id => 'parallel/a');
SELECT count(*), sum(total_events) > 600 AS events FROM allsource.es_partition_stats();
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('parallel/a', 0)$$);

-- A transaction's own appends are seen there too.
BEGIN;
SELECT allsource.es_append('parallel/b', 'x', '2');
SELECT version FROM allsource.es_read('parallel/b');
SELECT version FROM allsource.events WHERE stream_id = 'parallel/b' ORDER BY 1;
ROLLBACK;

-- A function that says that it is safe and is not gets an error, and nothing is written.
CREATE FUNCTION pg_temp.not_safe() RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$
BEGIN
    RETURN allsource.es_append('parallel/b', 'x', '2');
END
$$;
SELECT split_part(pg_temp.outcome('SELECT pg_temp.not_safe()'), E'\n', 1);
SELECT count(*) FROM allsource.es_read('parallel/b');
