-- Runs that cannot be read: the error says which, readers can go on behind them, and es_verify finds them.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

BEGIN;
SELECT es_partition AS p, 'event_log_p' || to_char(es_partition, 'FM00') AS leaf FROM allsource.es_partition('damaged/a') \gset
SELECT allsource.es_append_many('damaged/a', '{x,y,z}', '{1,2,3}');
SELECT allsource.es_append('damaged/b', 'x', '1');
SELECT stream_no AS a FROM allsource.es_stream('damaged/a') \gset
COMMIT;
SELECT "position" - 1 AS start FROM allsource.es_read('damaged/a', 1, 1) \gset
-- An outcome with positions that count from the first event, and without the stream's number.
CREATE FUNCTION pg_temp.outcome_from(start bigint, statement text) RETURNS text LANGUAGE sql AS $$
    SELECT replace(regexp_replace(pg_temp.outcome(statement), 'number \d+', 'number N'),
                   'position above ' || start + offs, 'position above start + ' || offs)
      FROM (SELECT max(o) AS offs FROM unnest(ARRAY[1, 3, 256]) o
             WHERE pg_temp.outcome(statement) LIKE '%above ' || start + o || '.%') AS found
$$;
CREATE FUNCTION pg_temp.shown(start bigint, statement text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(coalesce(pg_temp.outcome_from(start, statement), pg_temp.outcome(statement)),
                          'at position \d+', 'at position P')
$$;

\set all 'SELECT count(*) FROM allsource.es_read_all(' :start ')'
\set behind 'SELECT count(*) FROM allsource.es_read_all(' :start ' + 3)'
\set far_behind 'SELECT count(*) FROM allsource.es_read_all(' :start ' + 256)'

-- Columns of different lengths, where the last event can be told.
BEGIN;
UPDATE allsource.:"leaf" SET payloads = '{1,2}' WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.outcome(:'behind');
SELECT pg_temp.shown(:start, 'SELECT count(*) FROM allsource.es_read(''damaged/a'')');
SELECT pg_temp.shown(:start, 'SELECT count(*) FROM allsource.es_read(''damaged/a'', backward => true)');
UPDATE allsource.:"leaf" SET payloads = '{1,2,3,4}' WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
ROLLBACK;

-- A run without events, and one that is no list: it may have the most events that a run can have.
BEGIN;
UPDATE allsource.:"leaf" SET event_types = '{}' WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.outcome(:'far_behind');
SELECT pg_temp.shown(:start, 'SELECT count(*) FROM allsource.es_read(''damaged/a'')');
SELECT kind FROM allsource.es_verify(stream_id => 'damaged/a');
UPDATE allsource.:"leaf" SET event_types = '{{x,y}}' WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.outcome(:'far_behind');
ROLLBACK;

-- A type that is NULL.
BEGIN;
UPDATE allsource.:"leaf" SET event_types = '{x,NULL,z}' WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.outcome(:'behind');
ROLLBACK;

-- Times that are too few, too many, NULL, or no list.
BEGIN;
UPDATE allsource.:"leaf" SET timestamps = ARRAY["timestamp", "timestamp"] WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.outcome(:'behind');
SELECT pg_temp.shown(:start, 'SELECT count(*) FROM allsource.es_read(''damaged/a'')');
SELECT pg_temp.shown(:start, 'SELECT count(*) FROM allsource.es_read(''damaged/a'', backward => true)');
UPDATE allsource.:"leaf" SET timestamps = array_fill("timestamp", ARRAY[4]) WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
UPDATE allsource.:"leaf" SET timestamps = ARRAY["timestamp", NULL, "timestamp"] WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.outcome(:'behind');
SELECT kind FROM allsource.es_verify(stream_id => 'damaged/a');
UPDATE allsource.:"leaf" SET timestamps = array_fill("timestamp", ARRAY[1, 3]) WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.outcome(:'behind');
SELECT kind FROM allsource.es_verify(stream_id => 'damaged/a');
UPDATE allsource.:"leaf" SET timestamps = '{}' WHERE stream_no = :a;
SELECT pg_temp.shown(:start, :'all');
ROLLBACK;

-- Numbers at the limits of bigint.
BEGIN;
UPDATE allsource.:"leaf" SET first_version = 9223372036854775807, event_ids = ARRAY[gen_random_uuid(), NULL, gen_random_uuid()] WHERE stream_no = :a;
SELECT kind, version, detail FROM allsource.es_verify(stream_id => 'damaged/a') WHERE kind = 'gap';
SELECT kind, count(*) FROM allsource.es_verify(stream_id => 'damaged/a') GROUP BY kind ORDER BY kind;
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.shown(:start, 'SELECT count(*) FROM allsource.es_read(''damaged/a'', 2)');
UPDATE allsource.:"leaf" SET first_version = -9223372036854775808 WHERE stream_no = :a;
SELECT kind, version, detail FROM allsource.es_verify(stream_id => 'damaged/a') WHERE kind = 'overlap';
SELECT pg_temp.shown(:start, :'all');
SELECT pg_temp.shown(:start, 'SELECT count(*) FROM allsource.es_read(''damaged/a'', 2)');
UPDATE allsource.:"leaf" SET first_version = 1, "position" = 9223372036854775806 WHERE stream_no = :a;
SELECT kind, count(*) FROM allsource.es_verify(stream_id => 'damaged/a') GROUP BY kind ORDER BY kind;
SELECT pg_temp.outcome(:'all');
ROLLBACK;
SELECT count(*) FROM allsource.es_verify(:p);
