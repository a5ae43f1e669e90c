-- The settings, and what is above a limit.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT name, setting, unit, context, vartype, min_val, max_val, boot_val FROM pg_settings WHERE name LIKE 'allsource.%' ORDER BY name;
SHOW allsource.max_event_size;
SHOW allsource.max_batch_events;
SELECT pg_temp.outcome('SET allsource.node_id = 1');
SELECT pg_temp.outcome('SET allsource.max_event_size = 0');
SELECT pg_temp.outcome($$SET allsource.max_event_size = '1GB'$$);
SELECT pg_temp.outcome('SET allsource.max_batch_events = 0');
-- They are not for everyone to set.
BEGIN;
CREATE ROLE regress_writer IN ROLE allsource_writer;
SET LOCAL ROLE regress_writer;
SELECT pg_temp.outcome('SET allsource.max_event_size = 1000');
SELECT pg_temp.outcome('SET allsource.max_batch_events = 1000');
ROLLBACK;

-- An event's size is that of its type, payload and metadata: as many bytes as jsonb takes, up to 1 MB.
SELECT allsource.es_append('limits/a', 'x', to_jsonb(repeat('p', 1000)), to_jsonb(repeat('m', 1000)));
SELECT pg_temp.stored() AS before \gset
SELECT pg_temp.outcome($$SELECT allsource.es_append('limits/a', 'x', to_jsonb(repeat('p', 1048576)))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('limits/a', 'x', to_jsonb(repeat('p', 600000)), to_jsonb(repeat('m', 600000)))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('limits/a', '{x,x,x}', ARRAY['1', to_jsonb(repeat('p', 2000000)), '3']::jsonb[])$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{limits/a,limits/new}', '{x,x}', ARRAY['1', to_jsonb(repeat('p', 2000000))]::jsonb[])$$);
SELECT pg_temp.stored() = :'before' AS nothing_written;
-- The last byte that fits, and the first that does not.
SET allsource.max_event_size = '1kB';
SELECT allsource.es_append('limits/b', 'x', to_jsonb(repeat('p', 1024 - 1 - 8)));
SELECT pg_temp.outcome($$SELECT allsource.es_append('limits/b', 'x', to_jsonb(repeat('p', 1024 - 8)))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('limits/b', 'xy', to_jsonb(repeat('p', 1024 - 1 - 8)))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('limits/b', 'x', to_jsonb(repeat('p', 1024 - 1 - 8)), 'null')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('limits/b', repeat('ä', 255), to_jsonb(repeat('p', 600)))$$);
-- What is stored already is read whatever the limit is now.
SELECT count(*), max(length(payload #>> '{}')) FROM allsource.es_read('limits/a');
RESET allsource.max_event_size;
-- A larger limit.
SET allsource.max_event_size = '64MB';
SELECT allsource.es_append('limits/c', 'x', to_jsonb(repeat('p', 20000000)));
SELECT length(payload #>> '{}') FROM allsource.es_read('limits/c');
RESET allsource.max_event_size;

-- Events in a call.
SET allsource.max_batch_events = 3;
SELECT allsource.es_append_many('limits/d', '{x,x,x}', '{1,2,3}');
SELECT pg_temp.stored() AS before \gset
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('limits/d', '{x,x,x,x}', '{1,2,3,4}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{limits/d,limits/e,limits/f,limits/g}', '{x,x,x,x}', '{1,2,3,4}')$$);
SELECT pg_temp.stored() = :'before' AS nothing_written;
RESET allsource.max_batch_events;
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('limits/d', array_fill('x'::text, ARRAY[100001]), array_fill('1'::jsonb, ARRAY[100001]))$$);
BEGIN;
SELECT allsource.es_append_many('limits/d', array_fill('x'::text, ARRAY[100000]), array_fill('1'::jsonb, ARRAY[100000]));
SELECT count(*), min(version), max(version) FROM allsource.es_read('limits/d');
ROLLBACK;

-- Deep JSON is refused by PostgreSQL, before it can become an argument.
SELECT split_part(pg_temp.outcome($$SELECT allsource.es_append('limits/d', 'x', (repeat('[', 100000) || repeat(']', 100000))::jsonb)$$), E'\n', 1);
SELECT split_part(pg_temp.outcome($$SELECT allsource.es_append('limits/d', 'x', (repeat('{"a":', 100000) || '1' || repeat('}', 100000))::jsonb)$$), E'\n', 1);
-- What it lets pass is stored.
SELECT allsource.es_append('limits/deep', 'x', (repeat('[', 1000) || repeat(']', 1000))::jsonb);
SELECT payload::text = repeat('[', 1000) || repeat(']', 1000) AS same FROM allsource.es_read('limits/deep');

SELECT max(version) FROM allsource.es_read('limits/d');
SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'limits/%';
