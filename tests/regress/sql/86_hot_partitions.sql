-- Hot partitions: what the calls refuse, what is seen of events before and after they are settled.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
\pset footer off

-- Settled only when somebody asks.
ALTER SYSTEM SET allsource.settle_interval = '1 h';
SET allsource.sidecar_min_batches = 0;
SELECT pg_reload_conf();

-- Bad arguments.
SELECT pg_temp.outcome($$SELECT allsource.es_heat(NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_heat(-1)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_heat(32)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_cool(NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_cool(32)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_settle(32)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_sidecar_checkpoint(NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_sidecar_checkpoint('relative')$$);
-- They wait for others, so not behind an append, or without the right to write.
BEGIN;
SELECT allsource.es_append('hot/mine', 'x', '1');
SELECT pg_temp.outcome($$SELECT allsource.es_heat(7)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_cool(7)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_settle()$$);
SELECT pg_temp.outcome($$SELECT allsource.es_sidecar_rebuild()$$);
ROLLBACK;
BEGIN READ ONLY;
SELECT pg_temp.outcome($$SELECT allsource.es_heat(7)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_settle()$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.hot_partitions_status$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_sidecar_stats()$$);
ROLLBACK;
-- Nothing is done while the workers are paused, nor afterwards.
SELECT allsource.es_worker_pause();
SELECT pg_temp.outcome($$SELECT allsource.es_heat(7)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_cool(7)$$);
SELECT allsource.es_worker_resume();
SELECT * FROM allsource.hot_partitions_status WHERE partition_id = 7;
-- In a database that the workers do not serve.
SELECT current_database() AS own \gset
CREATE DATABASE allsource_unserved;
\c allsource_unserved
SET client_min_messages = error;
CREATE EXTENSION allsource;
SELECT allsource.es_heat(7);
SELECT allsource.es_settle();
SELECT count(*) FROM allsource.hot_partitions_status;
SELECT name, ok, detail FROM allsource.es_health() WHERE name IN ('unsettled events', 'sidecar');
\c :own
DROP DATABASE allsource_unserved;
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- Hot: events are in batches. They have versions and times, and no positions.
SELECT allsource.es_partition('hot/a') AS p \gset
SELECT allsource.es_heat(:p);
SELECT allsource.es_heat(:p);
SELECT allsource.es_safe_position() AS safe \gset
SELECT allsource.es_enqueue_batch('{hot/a,hot/a,hot/a}', '{x,y,z}', ARRAY['{"n": 1}', '2', '3']::jsonb[],
                                  metadata => ARRAY['{"m": 1}', NULL, NULL]::jsonb[], durable => true);
SELECT position, version, event_type, payload, metadata, event_id, entity_id, partition_id = :p AS is_here
  FROM allsource.es_read('hot/a');
SELECT version FROM allsource.es_read('hot/a', from_version => 2, max_count => 1);
SELECT version FROM allsource.es_read('hot/a', backward => true);
SELECT bool_and("timestamp" BETWEEN now() - interval '1 minute' AND now()) AS just_now FROM allsource.es_read('hot/a');
SELECT stream_no, current_version, watermark, created_at <= updated_at AS times, tenant_id, stream_id, entity_id
  FROM allsource.es_stream('hot/a');
SELECT allsource.es_stream_watermark('hot/a') AS watermark, allsource.es_verify_gapless('hot/a') AS gapless;
SELECT count(*) FROM allsource.es_read('hot/a', tenant_id => 'another');
-- Who follows the store does not see them.
SELECT (SELECT count(*) FROM allsource.es_read_all(:safe)) AS followed,
       (SELECT count(*) FROM allsource.events WHERE stream_id = 'hot/a') AS in_view,
       (SELECT count(*) FROM allsource.es_streams(:p) WHERE stream_id = 'hot/a') AS streams,
       allsource.es_safe_position() = :safe AS same_safe_position;
SELECT state, restored, batches > 0 AS batches, events, bytes > 0 AS bytes, oldest_written_at > since AS oldest, taken_events >= 3 AS taken, last_error
  FROM allsource.hot_partitions_status WHERE partition_id = :p;
SELECT stream_count AS streams, total_events AS events, last_position AS last FROM allsource.partition_stats WHERE partition_id = :p \gset before_
SELECT unsettled_events FROM allsource.partition_stats WHERE partition_id = :p;
SELECT name, ok FROM allsource.es_health() WHERE name = 'unsettled events';
SELECT * FROM allsource.es_verify(:p);

-- An append counts them. It settles its stream, and takes that back if it is rolled back.
SELECT pg_temp.outcome($$SELECT allsource.es_append('hot/a', 'w', '4', expected_version => 0)$$);
BEGIN;
SELECT allsource.es_append('hot/a', 'w', '4', expected_version => 3);
SELECT version, event_type, position - :safe > 0 AS has_position FROM allsource.es_read('hot/a');
ROLLBACK;
SELECT version, event_type, position - :safe > 0 AS has_position FROM allsource.es_read('hot/a');
SELECT allsource.es_append('hot/a', 'w', '4', expected_version => 3);
SELECT version, event_type, position - :safe > 0 AS has_position FROM allsource.es_read('hot/a');
SELECT events FROM allsource.hot_partitions_status WHERE partition_id = :p;
SELECT stream_count - :before_streams AS streams, total_events - :before_events AS events, unsettled_events
  FROM allsource.partition_stats WHERE partition_id = :p;
-- A stream with a tail has no entity, and is there.
SELECT 'hot/c' || n AS c FROM generate_series(1, 1000) n WHERE allsource.es_partition('hot/c' || n) = :p ORDER BY n LIMIT 1 \gset
SELECT allsource.es_enqueue(:'c', 'x', '1', durable => true);
SELECT pg_temp.outcome(format($$SELECT allsource.es_create_stream(%L, entity_id => 'entity')$$, :'c'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_append(%L, 'x', '2', entity_id => 'entity')$$, :'c'));
SELECT current_version, watermark, stream_no IS NULL AS is_unsettled FROM allsource.es_stream(:'c');
SELECT current_version, watermark, stream_no IS NULL AS is_unsettled FROM allsource.es_create_stream(:'c');
-- Events with an id or an entity take the ordinary way, behind those that wait. A retry is recognized.
SELECT allsource.es_enqueue(:'c', 'x', '2', durable => true);
SELECT allsource.es_enqueue(:'c', 'x', '3', event_id => '00000000-0000-0000-0000-000000000001', durable => true);
SELECT allsource.es_enqueue(:'c', 'x', '3', event_id => '00000000-0000-0000-0000-000000000001', durable => true);
SELECT version, payload, position IS NULL AS is_unsettled, event_id FROM allsource.es_read(:'c');

-- Settled: the same events, with positions in the order of versions.
SELECT allsource.es_enqueue_batch(ARRAY[:'c', 'hot/a', :'c'], '{x,x,x}', '{4,5,5}', durable => true);
CREATE TEMPORARY TABLE seen AS SELECT stream_id, version, event_type, payload, "timestamp" FROM allsource.es_read('hot/a')
                               UNION ALL SELECT stream_id, version, event_type, payload, "timestamp" FROM allsource.es_read(:'c');
SELECT allsource.es_settle(:p);
SELECT count(*) AS events, bool_and(e.position > :safe) AS have_positions
  FROM seen s JOIN allsource.events e USING (stream_id, version, event_type, payload, "timestamp");
SELECT stream_id = 'hot/a' AS is_a, version, payload FROM allsource.es_read_all(:safe) WHERE stream_id IN ('hot/a', :'c');
SELECT state, batches, events, bytes, oldest_written_at, last_error FROM allsource.hot_partitions_status WHERE partition_id = :p;
SELECT current_version, watermark FROM allsource.es_stream(:'c');
SELECT stream_count - :before_streams AS streams, total_events - :before_events AS events, unsettled_events
  FROM allsource.partition_stats WHERE partition_id = :p;
SELECT * FROM allsource.es_verify(:p);
-- Nothing is left to be done.
SELECT allsource.es_settle();
SELECT allsource.es_settle(:p, timeout => NULL);

-- A snapshot goes on showing what it showed.
SELECT allsource.es_enqueue('hot/a', 'late', '6', durable => true);
SELECT name, labels, CASE WHEN name ~ '_(total|bytes|seconds)$' THEN (value > 0)::int ELSE value END AS value
  FROM allsource.metrics
 WHERE name IN ('allsource_settler_up', 'allsource_sidecar_up', 'allsource_hot_partitions', 'allsource_hot_events_taken_total',
                'allsource_hot_events_settled_total', 'allsource_hot_unsettled_bytes', 'allsource_hot_oldest_unsettled_seconds',
                'allsource_tails_found_total', 'allsource_sidecar_rebuilds_total');
SELECT name, ok, regexp_replace(detail, '[\d.]+ s$', '… s') AS detail FROM allsource.es_health() WHERE name IN ('unsettled events', 'sidecar');
SELECT serving, pid IS NOT NULL AS pid, tails_found > 0 AS tails_found, last_error FROM allsource.es_sidecar_stats();
\setenv PGDATABASE :DBNAME
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT version, position IS NULL AS is_unsettled FROM allsource.es_read('hot/a', from_version => 5);
\! psql -X -q -c "SELECT allsource.es_settle()" -c "SELECT allsource.es_enqueue('hot/a', 'later', '7', durable => true)" >/dev/null
SELECT version, position IS NULL AS is_unsettled FROM allsource.es_read('hot/a', from_version => 5);
SELECT pg_temp.outcome($$SELECT allsource.es_append('hot/a', 'x', '8')$$);
COMMIT;
SELECT version, position IS NULL AS is_unsettled FROM allsource.es_read('hot/a', from_version => 5);

-- What a dump has brought is read, and left alone until somebody says what is to become of it.
UPDATE allsource.hot_partitions SET store_id = store_id + 1 WHERE partition_id = :p;
SELECT state, restored, events FROM allsource.hot_partitions_status WHERE partition_id = :p;
SELECT ok, detail LIKE 'restored from a dump%' FROM allsource.es_health() WHERE name = 'unsettled events';
SELECT value FROM allsource.metrics WHERE labels ->> 'state' = 'restored';
SELECT version, event_type, position IS NULL AS is_unsettled FROM allsource.es_read('hot/a', from_version => 7);
SELECT allsource.es_settle(:p);
SELECT state, restored, events FROM allsource.hot_partitions_status WHERE partition_id = :p;
SELECT version, event_type, position IS NULL AS is_unsettled FROM allsource.es_read('hot/a', from_version => 7);

-- Cold.
SELECT allsource.es_enqueue('hot/a', 'last', '8', durable => true);
SELECT allsource.es_cool(:p);
SELECT state, batches, events FROM allsource.hot_partitions_status WHERE partition_id = :p;
SELECT allsource.es_cool(:p);
SELECT allsource.es_enqueue('hot/a', 'ordinary', '9', durable => true);
SELECT version, event_type, position IS NULL AS is_unsettled FROM allsource.es_read('hot/a', from_version => 8);
SELECT * FROM allsource.es_verify(:p);
SELECT name, ok, detail FROM allsource.es_health() WHERE name IN ('unsettled events', 'sidecar');
ALTER SYSTEM RESET allsource.settle_interval;
SELECT pg_reload_conf();
