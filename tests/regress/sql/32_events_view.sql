-- The view events: one row per event, for any query.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_append('view/a', 'x', '1', '{"m": 1}', entity_id => 'entity-1', event_id => '00000000-0000-0000-0000-000000000001');
SELECT allsource.es_append_many('view/a', '{y,x,z}', '{2,3,4}', ARRAY[NULL, '{"m": 3}', NULL]::jsonb[]);
SELECT allsource.es_append_many('view/b', '{y,x}', '{5,6}', tenant_id => 'tenant-1');
SELECT count(*) FROM allsource.es_create_stream('view/empty');

SELECT stream_id, version, tenant_id, event_type, entity_id, payload, metadata, event_id, partition_id
  FROM allsource.events WHERE stream_id LIKE 'view/%' ORDER BY "position";

-- Row by row what es_read gives.
SELECT count(*) AS differences FROM (
    SELECT * FROM allsource.events WHERE stream_id = 'view/a' EXCEPT ALL SELECT * FROM allsource.es_read('view/a')
    UNION ALL (SELECT * FROM allsource.es_read('view/a') EXCEPT ALL SELECT * FROM allsource.events WHERE stream_id = 'view/a')
) AS d;
SELECT count(*) AS differences FROM (
    SELECT * FROM allsource.events WHERE stream_id = 'view/b' AND tenant_id = 'tenant-1'
    EXCEPT ALL SELECT * FROM allsource.es_read('view/b', tenant_id => 'tenant-1')
) AS d;
SELECT count(*) FROM allsource.events WHERE stream_id = 'view/empty';

-- Queries as on any table.
SELECT event_type, count(*), sum(payload::int) FROM allsource.events WHERE stream_id LIKE 'view/%' GROUP BY 1 ORDER BY 1;
SELECT stream_id, max(version) FROM allsource.events WHERE entity_id = 'entity-1' AND stream_id LIKE 'view/%' GROUP BY 1;
SELECT metadata FROM allsource.events WHERE stream_id LIKE 'view/%' AND metadata @> '{"m": 3}';

-- It cannot be written.
\pset format unaligned
\pset tuples_only
SELECT left(pg_temp.outcome($$INSERT INTO allsource.events (stream_id) VALUES ('view/a')$$), 60);
SELECT left(pg_temp.outcome($$UPDATE allsource.events SET version = 1$$), 50);
SELECT left(pg_temp.outcome($$DELETE FROM allsource.events$$), 60);
\pset tuples_only
\pset format aligned
