-- A hostile search_path changes nothing: a schema that stands before pg_catalog, with operators,
-- functions, tables and casts of the names that the extension's own SQL uses, each of which fails
-- when it is called.

SELECT allsource.es_append_many('path/a', '{x,y,x}', '{1,2,3}', '{1,NULL,3}', entity_id => 'entity-1',
                                event_ids => '{00000000-0000-0000-0000-000000000001,NULL,NULL}');
SELECT allsource.es_append('path/a', 'x', '4', tenant_id => 'tenant-1');
SELECT count(*) FROM allsource.es_create_stream('path/b');
SELECT "position" - 1 AS start, s.stream_no FROM allsource.es_read('path/a', 1, 1), allsource.es_stream('path/a') AS s \gset

-- All that can be called, and what comes out of it, as text.
CREATE TEMPORARY TABLE answers (call text, answer text);
CREATE FUNCTION pg_temp.ask(start bigint, stream_no bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    calls pg_catalog.text[] := pg_catalog.string_to_array($list$
        SELECT * FROM allsource.es_read('path/a');
        SELECT * FROM allsource.es_read('path/a', 3, 2, true);
        SELECT * FROM allsource.es_read_all(<start>);
        SELECT * FROM allsource.es_read_all(<start>, 2, ARRAY[allsource.es_partition('path/a')], '{x}', 'default');
        SELECT * FROM allsource.es_stream('path/a');
        SELECT allsource.es_stream_watermark('path/a');
        SELECT * FROM allsource.es_streams(allsource.es_partition('path/a'));
        SELECT * FROM allsource.es_streams(allsource.es_partition('path/b'), 'a', 5);
        SELECT allsource.es_partition('path/a');
        SELECT partition_id, stream_count, total_events, last_position, last_append_at FROM allsource.es_partition_stats();
        SELECT partition_id, stream_count, total_events, last_position, last_append_at FROM allsource.partition_stats;
        SELECT allsource.es_verify_gapless('path/a');
        SELECT * FROM allsource.es_verify();
        SELECT * FROM allsource.es_verify(stream_id => 'path/a');
        SELECT allsource.es_run_checksum(l) FROM allsource.event_log l WHERE l.stream_no OPERATOR(pg_catalog.=) <stream_no>;
        SELECT * FROM allsource.events e WHERE e.stream_id OPERATOR(pg_catalog.=) 'path/a';
        SELECT allsource.es_any(), allsource.es_no_stream(), allsource.es_stream_exists();
        SELECT allsource.es_safe_position();
        SELECT allsource.es_append('path/a', 'x', '{}', expected_version => allsource.es_stream_exists());
        SELECT allsource.es_append_many('path/a', '{x,y}', '{1,2}', event_ids => '{00000000-0000-0000-0000-000000000002,NULL}');
        SELECT stream_id, first_version FROM allsource.es_append_batch('{path/new,path/a}', '{x,y}', '{1,2}');
        SELECT stream_id, entity_id FROM allsource.es_create_stream('path/newer', entity_id => 'e')
    $list$, ';');
    call pg_catalog.text;
    answer pg_catalog.text;
BEGIN
    FOREACH call IN ARRAY calls LOOP
        call := pg_catalog.btrim(call, E' \n');
        EXECUTE pg_catalog.format('SELECT pg_catalog.string_agg(a::pg_catalog.text, E''\n'') FROM (%s) AS a',
                                  pg_catalog.replace(pg_catalog.replace(call, '<start>', start::pg_catalog.text),
                                                     '<stream_no>', stream_no::pg_catalog.text)) INTO answer;
        INSERT INTO pg_temp.answers VALUES (call, answer);
    END LOOP;
END
$$;

BEGIN;
CREATE SCHEMA hostile;
-- Operators of all names over all pairs of the types that the extension uses.
DO $$
DECLARE
    l text;
    r text;
    name text;
    types text[] := '{bigint,integer,text,name,uuid,boolean,oid,regclass,jsonb,text[],jsonb[],timestamptz}';
BEGIN
    FOREACH l IN ARRAY types LOOP
        FOREACH r IN ARRAY types LOOP
            EXECUTE format('CREATE FUNCTION hostile.lie(%s, %s) RETURNS bool LANGUAGE plpgsql AS %L', l, r, 'BEGIN RAISE ''hostile code was run''; END');
            FOREACH name IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '+', '-', '||', '>>'] LOOP
                EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.lie)', name, l, r);
            END LOOP;
        END LOOP;
    END LOOP;
END
$$;
-- Functions with exactly the arguments that the extension's queries have.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'unnest(text[])', 'unnest(jsonb[])', 'unnest(uuid[])', 'cardinality(text[])', 'cardinality(jsonb[])', 'cardinality(uuid[])',
        'generate_series(integer, integer)', 'lpad(text, integer, text)', 'pg_total_relation_size(oid)', 'pg_total_relation_size(regclass)',
        'lag(bigint, integer, bigint)', 'max(bigint)', 'max(timestamptz)', 'sum(bigint)', 'sum(numeric)', 'count()', 'format(text, bigint, bigint)',
        'format(text, integer, text)', 'format(text, bigint, bigint, bigint)', 'format(text, bigint)', 'format(text, uuid, text, text)',
        'format(text, bigint, integer)', 'format(text, integer, bigint, integer)', 'es_partition(text)', 'es_run_checksum(allsource.event_log)'
    ] LOOP
        EXECUTE format('CREATE FUNCTION hostile.%s RETURNS bigint LANGUAGE plpgsql AS %L', signature, 'BEGIN RAISE ''hostile code was run''; END');
    END LOOP;
END
$$;
-- Tables of the same names, in the schema and among the temporary ones, which come first of all.
CREATE TABLE hostile.event_streams ();
CREATE TABLE hostile.event_log ();
CREATE TABLE hostile.events ();
CREATE TABLE hostile.pg_class ();
CREATE TEMPORARY TABLE event_streams ();
CREATE TEMPORARY TABLE event_log ();
CREATE TEMPORARY TABLE pg_class ();
CREATE TEMPORARY TABLE event_log_p00 ();
CREATE DOMAIN hostile.text AS integer;
CREATE DOMAIN hostile.bigint AS boolean;

SAVEPOINT before;
-- The trap works.
SET LOCAL search_path = pg_temp, hostile, pg_catalog, allsource;
SELECT 1::pg_catalog.int8 = 1::pg_catalog.int8;
ROLLBACK TO before;
SET LOCAL search_path = pg_temp, hostile, pg_catalog, allsource;
SELECT cardinality('{a}'::pg_catalog.text[]);
ROLLBACK TO before;

-- The same answers by either path.
SELECT pg_temp.ask(:start, :stream_no);
SELECT jsonb_object_agg(call, answer) AS usual FROM answers \gset
ROLLBACK TO before;
SET LOCAL search_path = pg_temp, hostile, pg_catalog, allsource;
SELECT pg_temp.ask(:start, :stream_no);
SET LOCAL search_path = pg_catalog;
SELECT call, answer, :'usual'::jsonb ->> call AS usual FROM pg_temp.answers WHERE answer IS DISTINCT FROM :'usual'::jsonb ->> call;
SELECT count(*) AS calls, count(answer) AS answered, array_agg(call) FILTER (WHERE answer IS NULL) AS without_rows FROM pg_temp.answers;
ROLLBACK;
