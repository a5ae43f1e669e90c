-- Handing events over to the workers: what bad arguments get, before anything is handed over, and
-- what becomes of good ones.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
\pset format unaligned
\pset tuples_only

SELECT allsource.es_flush() IS NOT NULL AS flushed;
SELECT sum(enqueued) AS before FROM allsource.queue_stats \gset

-- es_enqueue: names.
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue(NULL, 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('', 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue(repeat('n', 256), 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue(repeat('注', 256), 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue(repeat('n', 1000000), 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', NULL, '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', '', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', repeat('ä', 256), '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', '{}', tenant_id => NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', '{}', tenant_id => '')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', '{}', tenant_id => repeat('t', 256))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', '{}', entity_id => '')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', '{}', entity_id => repeat('e', 256))$$);
-- es_enqueue: payload, and what PostgreSQL's types refuse themselves.
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', '{}', event_id => 'no uuid')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', '{}', expected_version => 1)$$);

-- es_enqueue_batch: arrays. The events before a bad one are not handed over either.
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch(NULL, '{x}', '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a}', NULL, '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a}', '{x}', NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{}', '{}', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a,queue/b}', '{x}', '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a}', '{x,y}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a}', '{x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a}', '{x}', '{1}', metadata => '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a}', '{x}', '{1}', event_ids => '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{{queue/a},{queue/b}}', '{x,x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a,NULL}', '{x,x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a,""}', '{x,x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch(ARRAY['queue/a', repeat('n', 300)], '{x,x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a,queue/a}', '{x,NULL}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a,queue/a}', '{x,""}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a,queue/a}', '{x,x}', '{1,NULL}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a}', '{x}', '{1}', tenant_id => NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a}', '{x}', '{1}', tenant_id => repeat('t', 256))$$);

-- What is too large: for an event, for a call, and for a quarter of the queue.
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', to_jsonb(repeat('p', 1048576)))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a,queue/b}', '{x,x}', ARRAY['1', to_jsonb(repeat('p', 2000000))]::jsonb[])$$);
SET allsource.max_batch_events = 3;
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{a,a,a,a}', '{x,x,x,x}', '{1,2,3,4}')$$);
RESET allsource.max_batch_events;
SET allsource.max_event_size = '64MB';
SHOW allsource.queue_size;
SELECT regexp_replace(pg_temp.outcome($$SELECT allsource.es_enqueue('queue/a', 'x', to_jsonb(repeat('p', 5000000)))$$), '\d{7}', '…', 'g');
SELECT regexp_replace(pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/a,queue/a}', '{x,x}', ARRAY['1', to_jsonb(repeat('p', 5000000))]::jsonb[])$$), '\d{7}', '…', 'g');
SELECT sum(enqueued) = :before AS nothing_was_handed_over FROM allsource.queue_stats;
-- What fits.
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/large', 'x', to_jsonb(repeat('p', 4000000)))$$);
RESET allsource.max_event_size;

-- Good calls: no result, or how many were taken.
SELECT allsource.es_enqueue('queue/b', 'one', '{"a": 1}', '{"m": 1}', 'tenant', 'entity', '00000000-0000-0000-0000-000000000001');
SELECT allsource.es_enqueue('queue/b', 'two', '2', tenant_id => 'tenant', durable => NULL);
SELECT allsource.es_enqueue_batch('{queue/c,queue/d,queue/c}', '{x,y,z}', '{1,2,3}', metadata => '{1,NULL,3}',
                                  event_ids => '{NULL,00000000-0000-0000-0000-000000000002,NULL}');
SELECT allsource.es_enqueue_batch('{queue/c}', '{w}', '{4}', durable => true);
SELECT allsource.es_flush() >= 0, allsource.es_flush(NULL), allsource.es_flush('0'), allsource.es_flush('-1 month');
SELECT stream_id, version, tenant_id, event_type, entity_id, payload, metadata, event_id
  FROM allsource.events WHERE stream_id LIKE 'queue/_' ORDER BY stream_id, version;
SELECT length(payload #>> '{}') FROM allsource.es_read('queue/large');
SELECT sum(enqueued) - :before AS enqueued, sum(depth_events) AS depth FROM allsource.queue_stats;
-- An event is handed over at once, whatever becomes of the transaction.
BEGIN;
SELECT allsource.es_enqueue('queue/e', 'x', '1');
ROLLBACK;
SELECT allsource.es_flush() >= 0;
SELECT count(*) FROM allsource.es_read('queue/e');
-- A retry of an event id is not written again, with nobody told; with another content it is refused.
SELECT allsource.es_enqueue('queue/d', 'y', '2', event_id => '00000000-0000-0000-0000-000000000002', durable => true);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/d', 'y', '3', event_id => '00000000-0000-0000-0000-000000000002', durable => true)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/d,queue/d}', '{y,y}', '{4,5}', event_ids => '{NULL,00000000-0000-0000-0000-000000000002}', durable => true)$$);
SELECT version, payload FROM allsource.es_read('queue/d');
DO $$ BEGIN PERFORM allsource.es_dead_letter_discard(id) FROM allsource.dead_letters; END $$;
-- A transaction that keeps a stream locked cannot wait for the workers.
BEGIN;
SELECT allsource.es_append('queue/f', 'x', '1');
SELECT pg_temp.outcome($$SELECT allsource.es_flush()$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/f', 'x', '2', durable => true)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{queue/f}', '{x}', '{2}', durable => true)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/f', 'x', '2')$$);
COMMIT;
SELECT allsource.es_flush() >= 0;
SELECT version, payload FROM allsource.es_read('queue/f');
-- While the workers rest.
SELECT allsource.es_worker_pause();
SELECT allsource.es_worker_pause();
SELECT DISTINCT state FROM allsource.queue_stats;
SELECT allsource.es_flush();
SELECT allsource.es_enqueue('queue/g', 'x', '1');
SELECT pg_temp.outcome($$SELECT allsource.es_flush()$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('queue/g', 'x', '2', durable => true)$$);
SELECT count(*) FROM allsource.es_read('queue/g');
SELECT allsource.es_worker_resume();
SELECT allsource.es_worker_resume();
SELECT allsource.es_flush() >= 0;
SELECT version, payload FROM allsource.es_read('queue/g');
SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'queue/%';
