-- es_append: one event.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
PREPARE stream(text) AS
SELECT version, event_type, payload, metadata, event_id, entity_id FROM allsource.es_read($1);

-- The version written comes back: 1, 2, 3.
SELECT allsource.es_append('append/a', 'opened', '{"amount": 1}');
SELECT allsource.es_append('append/a', 'changed', '{"amount": 2}', '{"user": "u1"}');
SELECT allsource.es_append('append/a', 'closed', '{}', event_id => '00000000-0000-0000-0000-00000000000a');
EXECUTE stream('append/a');

-- All arguments, in their order.
SELECT allsource.es_append('append/b', 'opened', '1', '2', 0, 'tenant-1', 'entity-1', '00000000-0000-0000-0000-00000000000b');
SELECT stream_id, version, tenant_id, event_type, entity_id, payload, metadata, event_id, partition_id
  FROM allsource.es_read('append/b', tenant_id => 'tenant-1');

-- One row per append, and its events' times are those of the append.
SELECT first_version, cardinality(event_types) AS events, metadata IS NULL AS no_metadata, event_ids IS NULL AS no_ids
  FROM allsource.event_log
 WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('append/a'))
 ORDER BY 1;
SELECT bool_and("timestamp" BETWEEN now() - interval '1 hour' AND clock_timestamp()) AS recent,
       max("timestamp") = (SELECT updated_at FROM allsource.es_stream('append/a')) AS stream_updated_then
  FROM allsource.es_read('append/a');

-- Expected versions. NULL: any.
SELECT allsource.es_append('append/c', 'x', '{}', expected_version => allsource.es_any());
SELECT allsource.es_append('append/c', 'x', '{}', expected_version => NULL);
-- n: exactly n.
SELECT allsource.es_append('append/c', 'x', '{}', expected_version => 2);
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/c', 'x', '{}', expected_version => 2)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/c', 'x', '{}', expected_version => 4)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/new', 'x', '{}', expected_version => 1)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/c', 'x', '{}', expected_version => 9223372036854775807)$$);
-- -1: the stream is there, with or without events.
SELECT allsource.es_append('append/c', 'x', '{}', expected_version => allsource.es_stream_exists());
SELECT count(*) FROM allsource.es_create_stream('append/empty');
SELECT allsource.es_append('append/empty', 'x', '{}', expected_version => -1);
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/new', 'x', '{}', expected_version => -1)$$);
-- 0: it has no events.
SELECT allsource.es_append('append/d', 'x', '{}', expected_version => allsource.es_no_stream());
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/d', 'x', '{}', expected_version => 0)$$);
SELECT count(*) FROM allsource.es_create_stream('append/empty-2');
SELECT allsource.es_append('append/empty-2', 'x', '{}', expected_version => 0);

-- What was refused has left nothing: no event, and no stream.
SELECT count(*) FROM allsource.es_read('append/c');
SELECT * FROM allsource.es_stream('append/new');

-- Tenants have streams of their own.
SELECT allsource.es_append('append/a', 'x', '{}', expected_version => 0, tenant_id => 'tenant-1');
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/a', 'x', '{}', expected_version => 3, tenant_id => 'tenant-1')$$);
SELECT count(*), max(version) FROM allsource.es_read('append/a', tenant_id => 'tenant-1');

-- The entity belongs to the stream: given with its first event or not at all, and never changed.
SELECT allsource.es_append('append/e', 'x', '{}', entity_id => 'customer-1');
SELECT allsource.es_append('append/e', 'x', '{}');
SELECT allsource.es_append('append/e', 'x', '{}', entity_id => 'customer-1');
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/e', 'x', '{}', entity_id => 'customer-2')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('append/d', 'x', '{}', entity_id => 'customer-1')$$);
SELECT version, entity_id FROM allsource.es_read('append/e');

-- Many appends to one stream, from one statement; versions and positions in the same order.
SELECT array_agg(allsource.es_append('append/f', 'x', to_jsonb(i)) ORDER BY i) FROM generate_series(1, 5) AS i;
SELECT version, payload, "position" - lag("position") OVER (ORDER BY version) AS step FROM allsource.es_read('append/f');

SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'append/%';
