-- The view partition_stats and es_partition_stats: always 32 rows, exact counts.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- With an empty store too.
BEGIN;
DELETE FROM allsource.event_log;
DELETE FROM allsource.event_ids;
DELETE FROM allsource.event_streams;
SELECT partition_id, stream_count, total_events, last_position, last_append_at, size_bytes > 0 AS has_size
  FROM allsource.partition_stats ORDER BY 1;
ROLLBACK;

-- What appends change.
CREATE TEMPORARY TABLE before AS TABLE allsource.partition_stats;
SELECT n, allsource.es_partition('stats/' || n) FROM unnest(ARRAY['a', 'b', 'c']) AS n;
SELECT allsource.es_append_many('stats/a', array_fill('x'::text, ARRAY[700]), array_fill('{}'::jsonb, ARRAY[700]));
SELECT allsource.es_append('stats/a', 'x', '{}', tenant_id => 'tenant-1');
SELECT allsource.es_append('stats/b', 'x', '{}');
SELECT count(*) FROM allsource.es_create_stream('stats/c');
SELECT s.partition_id, s.stream_count - b.stream_count AS new_streams, s.total_events - b.total_events AS new_events,
       s.last_position IS DISTINCT FROM b.last_position AS position_moved,
       s.last_append_at IS DISTINCT FROM b.last_append_at AS appended
  FROM allsource.partition_stats s JOIN before b USING (partition_id)
 WHERE s.stream_count <> b.stream_count
 ORDER BY 1;
-- The last position is that of the last event, not of its run.
SELECT s.last_position = e."position" AS of_the_last_event, s.last_append_at = e."timestamp" AS and_its_time
  FROM allsource.partition_stats s, allsource.es_read('stats/b') e WHERE s.partition_id = e.partition_id;
SELECT max(last_position) = allsource.es_safe_position() AS the_whole_store FROM allsource.partition_stats;

-- The sums agree with the tables and the events.
SELECT count(*) AS "rows", array_agg(partition_id ORDER BY partition_id) = ARRAY(SELECT generate_series(0, 31)) AS all_partitions,
       sum(stream_count) = (SELECT count(*) FROM allsource.event_streams) AS streams,
       sum(total_events) = (SELECT count(*) FROM allsource.events) AS events,
       max(last_position) = (SELECT max("position") FROM allsource.events) AS last_position,
       max(last_append_at) = (SELECT max("timestamp") FROM allsource.events) AS last_append
  FROM allsource.partition_stats;
SELECT count(*) AS wrong
  FROM allsource.partition_stats s
  FULL JOIN (
           SELECT partition_id, count(*) AS events, max("position") AS last_position, max("timestamp") AS last_append_at
             FROM allsource.events GROUP BY 1
       ) AS e USING (partition_id)
 WHERE s.total_events <> coalesce(e.events, 0)
    OR s.last_position IS DISTINCT FROM e.last_position OR s.last_append_at IS DISTINCT FROM e.last_append_at;

-- The function has the view's rows.
SELECT count(*) AS "rows", count(*) FILTER (WHERE f IS DISTINCT FROM v) AS different
  FROM allsource.es_partition_stats() AS f FULL JOIN allsource.partition_stats AS v USING (partition_id);
SELECT partition_id, stream_count >= 2 AS both_tenants FROM allsource.es_partition_stats() WHERE partition_id = allsource.es_partition('stats/a');

-- Sizes are those of the leaves with all that belongs to them. Autovacuum may be at work between.
SELECT abs(sum(s.size_bytes) - (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
                                 WHERE inhparent IN ('allsource.event_streams'::regclass, 'allsource.event_log'::regclass,
                                                     'allsource.event_ids'::regclass))) < 1000000 AS size
  FROM allsource.partition_stats s;
-- A table of the same name elsewhere is not counted.
BEGIN;
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.event_log_p00 AS SELECT repeat('x', 1000) FROM generate_series(1, 10000);
SELECT s.size_bytes - b.size_bytes < 1000000 AS same FROM allsource.partition_stats s JOIN before b USING (partition_id) WHERE partition_id = 0;
ROLLBACK;
