-- Where a stream's head is in its table is remembered. When heads move, streams are still found.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

CREATE TEMP TABLE names AS
SELECT name, row_number() OVER () AS n
  FROM (SELECT 'moved/' || i AS name FROM generate_series(1, 40000) i) AS all_names
 WHERE allsource.es_partition(name) = 9;
CREATE FUNCTION pg_temp.append_to_all() RETURNS TABLE (streams int8, lowest int8, highest int8)
BEGIN ATOMIC
    SELECT count(*), min(version), max(version)
      FROM (SELECT allsource.es_append(name, 'x', '{}') AS version FROM names OFFSET 0) AS appended;
END;
SELECT count(*) > 1000 AS enough FROM names;
SELECT lowest, highest FROM pg_temp.append_to_all();
SELECT lowest, highest FROM pg_temp.append_to_all();

-- The rows are written in another order.
CREATE INDEX moved_heads ON allsource.event_streams_p09 (pg_catalog.md5(stream_id));
CLUSTER allsource.event_streams_p09 USING moved_heads;
SELECT lowest, highest FROM pg_temp.append_to_all();
DROP INDEX allsource.moved_heads;

-- The table gets shorter than where heads are remembered to be, and places are used again by others.
DELETE FROM allsource.event_log_p09;
DELETE FROM allsource.event_streams_p09 WHERE stream_id IN (SELECT name FROM names WHERE n > 100);
UPDATE allsource.event_streams_p09 SET current_version = 0, watermark = 0;
VACUUM (FREEZE) allsource.event_streams_p09;
SELECT count(*) AS left_over FROM names WHERE allsource.es_stream_watermark(name) IS NOT NULL;
SELECT lowest, highest FROM pg_temp.append_to_all();
UPDATE names SET name = name || '/new' WHERE n % 2 = 0;
DELETE FROM names WHERE allsource.es_partition(name) <> 9;
SELECT lowest, highest FROM pg_temp.append_to_all();

-- Another tenant's stream of the same name.
SELECT allsource.es_append(name, 'x', '{}', tenant_id => 'other'), allsource.es_append(name, 'x', '{}')
  FROM names WHERE n = 1;

-- A stream whose creation was rolled back, and whose place another one gets.
BEGIN;
SELECT allsource.es_append('moved/rolled-back-7', 'x', '{}');
ROLLBACK;
SELECT allsource.es_append('moved/rolled-back-7', 'x', '{}'), allsource.es_partition('moved/rolled-back-7');

TRUNCATE allsource.event_streams_p09, allsource.event_log_p09, allsource.event_ids_p09;
SELECT lowest, highest FROM pg_temp.append_to_all();
SELECT count(*) AS faults FROM allsource.es_verify() WHERE stream_id LIKE 'moved/%';
