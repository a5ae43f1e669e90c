-- Indexes that users add to the store's tables are kept up to date by every kind of append.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

BEGIN;
SELECT allsource.es_append('index/a', 'before', '{"n": 1}');

-- By event type, over all leaves at once.
CREATE INDEX user_types ON allsource.event_log USING gin (event_types);
SELECT allsource.es_append('index/a', 'rare', '{"n": 2}');
SELECT allsource.es_append_many('index/a', '{often,rare,often}', ARRAY['{"n": 3}', '{"n": 4}', '{"n": 5}']::jsonb[]);
SELECT count(*) FROM allsource.es_append_batch(
    (SELECT array_agg('index/b' || i % 20) FROM generate_series(1, 200) AS i),
    (SELECT array_agg(CASE i % 50 WHEN 0 THEN 'rare' ELSE 'often' END) FROM generate_series(1, 200) AS i),
    array_fill('{}'::jsonb, ARRAY[200]));
-- More than fits one insert, and runs that are stored out of line.
SELECT allsource.es_append_many('index/c', array_agg(CASE WHEN i % 100 = 0 THEN 'rare' ELSE repeat('often', 40) END), array_agg('{}'::jsonb))
  FROM generate_series(1, 5000) AS i;

SET LOCAL enable_seqscan = off;
SELECT pg_temp.scans($$SELECT * FROM allsource.event_log WHERE event_types @> '{rare}'$$);
CREATE TEMPORARY TABLE by_index AS SELECT stream_no, first_version FROM allsource.event_log WHERE event_types @> '{rare}';
SET LOCAL enable_seqscan = on;
SET LOCAL enable_bitmapscan = off;
SELECT pg_temp.scans($$SELECT * FROM allsource.event_log WHERE event_types @> '{rare}'$$);
CREATE TEMPORARY TABLE by_table AS SELECT stream_no, first_version FROM allsource.event_log WHERE event_types @> '{rare}';
RESET enable_bitmapscan;
SELECT (SELECT count(*) FROM by_index) > 50 AS enough,
       (SELECT count(*) FROM (TABLE by_index EXCEPT ALL TABLE by_table) AS d) AS too_many,
       (SELECT count(*) FROM (TABLE by_table EXCEPT ALL TABLE by_index) AS d) AS missing;

-- An index over what every append changes in a stream's row: the row moves each time.
CREATE INDEX user_version ON allsource.event_streams (current_version) INCLUDE (stream_id);
CREATE INDEX user_entity ON allsource.event_streams (upper(entity_id)) WHERE entity_id IS NOT NULL;
SELECT allsource.es_append('index/d', 'x', '1', entity_id => 'entity-1');
SELECT array_agg(allsource.es_append('index/d', 'x', to_jsonb(i)) ORDER BY i) FROM generate_series(2, 30) AS i;
SELECT count(*) FROM allsource.es_append_batch(
    (SELECT array_agg('index/b' || i % 20) FROM generate_series(1, 200) AS i),
    array_fill('x'::text, ARRAY[200]), array_fill('{}'::jsonb, ARRAY[200]));
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT pg_temp.scans($$SELECT stream_id FROM allsource.event_streams WHERE current_version = 30 AND partition_id = allsource.es_partition('index/d')$$);
SELECT stream_id FROM allsource.event_streams WHERE current_version = 30 AND partition_id = allsource.es_partition('index/d');
SELECT count(*) FROM allsource.event_streams WHERE current_version = 20 AND stream_id LIKE 'index/b%';
SELECT stream_id, current_version FROM allsource.event_streams WHERE upper(entity_id) = 'ENTITY-1' AND stream_id LIKE 'index/%';
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT version FROM allsource.es_read('index/d', backward => true, max_count => 2);

-- A unique index of a user's is respected, and says so itself: one on the log, and one on the
-- streams, where two streams of a partition are to have the same entity.
SELECT name, allsource.es_partition(name) FROM unnest(ARRAY['index/a', 'index/d', 'index/n43']) AS name;
CREATE UNIQUE INDEX user_unique_payload ON allsource.event_log_p04 ((payloads[1] -> 'n'));
CREATE UNIQUE INDEX user_unique_entity ON allsource.event_streams_p21 (entity_id);
SELECT pg_temp.stored() AS before \gset
SELECT pg_temp.outcome($$SELECT allsource.es_append('index/a', 'x', '{"n": 2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('index/n43', 'x', '{}', entity_id => 'entity-1')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('index/n43', entity_id => 'entity-1')$$);
SELECT pg_temp.stored() = :'before' AS nothing_written;
SELECT allsource.es_append('index/a', 'x', '{"n": 6}');
SELECT allsource.es_append('index/n43', 'x', '{}', entity_id => 'entity-2');

SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'index/%';
ROLLBACK;
