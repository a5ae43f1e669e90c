-- es_append_batch: many streams, all or nothing.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- A row per stream, in the order of first appearance. first_position says where a stream's first
-- event stands; the events of a stream stand together.
CREATE TEMPORARY TABLE written AS
SELECT row_number() OVER () AS n, *
  FROM allsource.es_append_batch('{batch/b,batch/a,batch/b,batch/c,batch/a,batch/b}',
                                 '{t1,t2,t3,t4,t5,t6}',
                                 '{1,2,3,4,5,6}');
SELECT n, stream_id, partition_id = allsource.es_partition(stream_id) AS placed, first_version, last_version FROM written ORDER BY n;
-- The events of a stream keep their order, wherever they stand in the arrays.
SELECT stream_id, version, event_type, payload, metadata, event_id
  FROM allsource.events WHERE stream_id IN ('batch/a', 'batch/b', 'batch/c') ORDER BY 1, 2;
SELECT bool_and(e."position" = w.first_position + e.version - w.first_version) AS positions_as_told
  FROM written w, allsource.es_read(w.stream_id) e;
SELECT max(first_position + last_version) - min(first_position) AS positions_taken FROM written;

-- The next batch goes on where each stream is.
SELECT stream_id, first_version, last_version
  FROM allsource.es_append_batch('{batch/c,batch/d,batch/a}', '{x,x,x}', '{1,2,3}');

-- All arguments, in their order.
SELECT stream_id, partition_id, first_version, last_version
  FROM allsource.es_append_batch('{batch/a,batch/e}', '{x,y}', '{1,2}',
                                 ARRAY[NULL, '{"m": 2}']::jsonb[], ARRAY[0, NULL]::bigint[], 'tenant-1',
                                 ARRAY['00000000-0000-0000-0000-0000000000b1', NULL]::uuid[]);
SELECT stream_id, version, tenant_id, event_type, entity_id, payload, metadata, event_id
  FROM allsource.events WHERE stream_id LIKE 'batch/%' AND tenant_id = 'tenant-1' ORDER BY 1;

-- Expected versions stand beside their events; the first one given for a stream counts.
SELECT stream_id, first_version, last_version
  FROM allsource.es_append_batch('{batch/a,batch/b,batch/a,batch/f}', '{x,x,x,x}',
                                 '{1,2,3,4}', expected_versions => ARRAY[NULL, 3, 3, 0]);
SELECT stream_id, first_version, last_version
  FROM allsource.es_append_batch('{batch/a,batch/a}', '{x,x}', '{1,2}',
                                 expected_versions => ARRAY[5, 99]);
SELECT stream_id, first_version, last_version
  FROM allsource.es_append_batch('{batch/a}', '{x}', '{1}', expected_versions => ARRAY[-1]);

-- All or nothing: one stream is not where it is expected, and no other is written either.
SELECT pg_temp.stored() AS before \gset
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch(
    '{batch/a,batch/new,batch/b}', '{x,x,x}', '{1,2,3}',
    expected_versions => ARRAY[NULL, NULL, 3])$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch(
    '{batch/new,batch/new-2}', '{x,x}', '{1,2}', expected_versions => ARRAY[NULL, -1])$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch(
    '{batch/a,batch/a}', '{x,x}', '{1,2}', expected_versions => ARRAY[NULL, 1])$$);
SELECT pg_temp.stored() = :'before' AS nothing_written;

-- Streams are locked in one fixed order, so the order of the arrays makes no difference to others;
-- the rows still come in that of the arrays.
SELECT array_agg(stream_id) FROM allsource.es_append_batch(
    '{batch/z,batch/y,batch/x,batch/w}', array_fill('x'::text, ARRAY[4]), array_fill('{}'::jsonb, ARRAY[4]));

-- Many streams, many events: one run for each stream.
SELECT count(*), sum(last_version - first_version + 1) AS events, count(DISTINCT partition_id) AS partitions
  FROM allsource.es_append_batch(
           (SELECT array_agg('batch/many-' || i % 500 ORDER BY i) FROM generate_series(0, 4999) AS i),
           array_fill('x'::text, ARRAY[5000]),
           (SELECT array_agg(to_jsonb(i) ORDER BY i) FROM generate_series(0, 4999) AS i));
SELECT count(DISTINCT stream_id) AS streams, count(*) AS events, min(version), max(version),
       bool_and(payload::bigint = (version - 1) * 500 + split_part(stream_id, '-', 2)::bigint) AS in_order
  FROM allsource.events WHERE stream_id LIKE 'batch/many-%';
SELECT count(*) AS runs
  FROM allsource.event_log JOIN allsource.event_streams USING (partition_id, stream_no)
 WHERE stream_id LIKE 'batch/many-%';

SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'batch/%';
