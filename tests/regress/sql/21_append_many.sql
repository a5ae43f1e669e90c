-- es_append_many: many events, one stream.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- The last version comes back, and the events stand in the order of the arrays.
SELECT allsource.es_append_many('many/a', '{x,y,x}', ARRAY['1', '"two"', '{"three": 3}']::jsonb[]);
SELECT allsource.es_append_many('many/a', '{z}', '{4}');
SELECT version, event_type, payload, metadata, event_id FROM allsource.es_read('many/a');

-- All arguments, in their order. Metadata and ids may be there for some events only.
SELECT allsource.es_append_many('many/b', '{x,y,z}', '{1,2,3}',
                                ARRAY[NULL, '{"m": 2}', NULL]::jsonb[], 0, 'tenant-1', 'entity-1',
                                ARRAY[NULL, NULL, '00000000-0000-0000-0000-000000000003']::uuid[]);
SELECT version, tenant_id, event_type, entity_id, payload, metadata, event_id
  FROM allsource.es_read('many/b', tenant_id => 'tenant-1');

-- NULL and all-NULL arrays are the same: nothing is stored for them.
SELECT allsource.es_append_many('many/c', '{x,y}', '{1,2}',
                                metadata => ARRAY[NULL, NULL]::jsonb[], event_ids => ARRAY[NULL, NULL]::uuid[]);
SELECT first_version, cardinality(event_types) AS events, metadata IS NULL AS no_metadata, event_ids IS NULL AS no_ids
  FROM allsource.event_log WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('many/c'));
SELECT version, metadata, event_id FROM allsource.es_read('many/c');

-- A jsonb null is a value; a NULL is none.
SELECT allsource.es_append_many('many/null', '{x,y}', ARRAY['null', '2']::jsonb[], ARRAY['null', NULL]::jsonb[]);
SELECT version, payload IS NULL AS no_payload, payload, metadata IS NULL AS no_metadata, metadata
  FROM allsource.es_read('many/null');

-- Lower bounds of the arrays do not matter.
SELECT allsource.es_append_many('many/bounds', '[5:6]={x,y}', '[-1:0]={1,2}', '[0:1]={"{}",NULL}');
SELECT version, event_type, payload, metadata FROM allsource.es_read('many/bounds');
SELECT DISTINCT array_lower(event_types, 1), array_lower(payloads, 1), array_lower(metadata, 1)
  FROM allsource.event_log WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('many/bounds'));

-- Expected versions count from before the first event.
SELECT allsource.es_append_many('many/d', '{x,x}', '{1,2}', expected_version => 0);
SELECT allsource.es_append_many('many/d', '{x,x}', '{3,4}', expected_version => 2);
SELECT allsource.es_append_many('many/d', '{x}', '{5}', expected_version => -1);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('many/d', '{x,x}', '{6,7}', expected_version => 3)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('many/new', '{x}', '{1}', expected_version => -1)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('many/b', '{x}', '{1}', tenant_id => 'tenant-1', entity_id => 'entity-2')$$);
SELECT count(*), max(version) FROM allsource.es_read('many/d');

-- A run holds 256 events at most, however small; the times and positions of a call go on through its runs.
SELECT allsource.es_append_many('many/small', array_agg('t'::text), array_agg('null'::jsonb)) FROM generate_series(1, 1000);
SELECT first_version, cardinality(event_types) AS events, "position" - min("position") OVER () AS "position"
  FROM allsource.event_log WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('many/small'))
 ORDER BY 1;
SELECT allsource.es_append_many('many/long', array_agg('t' || i % 3), array_agg(to_jsonb(i)))
  FROM generate_series(1, 1000) AS i;
SELECT count(*), min(version), max(version), count(DISTINCT "timestamp") AS times,
       max("position") - min("position") AS distance,
       bool_and(payload = to_jsonb(version) AND event_type = 't' || version % 3) AS in_order
  FROM allsource.es_read('many/long');

-- A run ends before it would pass a page; a larger event is a run of its own.
SELECT allsource.es_append_many('many/large', array_agg('t'::text), array_agg(to_jsonb(repeat('ä', size / 2))))
  FROM unnest(ARRAY[3000, 3000, 3000, 20000, 100, 100, 8000, 100]) AS size;
SELECT first_version, cardinality(event_types) AS events FROM allsource.event_log
 WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('many/large')) ORDER BY 1;
SELECT version, length(payload #>> '{}') FROM allsource.es_read('many/large');

SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'many/%';
