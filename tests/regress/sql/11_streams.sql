-- es_create_stream, es_stream, es_stream_watermark, es_streams.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- The row of a stream without its number and times, which differ from run to run.
PREPARE row_of(text, text) AS
SELECT partition_id, tenant_id, stream_id, entity_id, current_version, watermark,
       created_at = updated_at AS unchanged
  FROM allsource.es_stream($1, $2);

-- Made once, and found from then on.
SELECT stream_id, tenant_id, entity_id, current_version, watermark, created_at = updated_at AS unchanged
  FROM allsource.es_create_stream('streams/a', entity_id => 'customer-1');
SELECT stream_no AS first_no FROM allsource.es_create_stream('streams/a') \gset
SELECT stream_no = :first_no AS same_stream, entity_id FROM allsource.es_create_stream('streams/a');
SELECT stream_no = :first_no AS same_stream FROM allsource.es_create_stream('streams/a', entity_id => 'customer-1');
EXECUTE row_of('streams/a', 'default');

-- The number says the partition: its upper bits.
SELECT stream_no >> 58 = allsource.es_partition('streams/a') AS placed FROM allsource.es_stream('streams/a');

-- A stream's entity is fixed when it is made.
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('streams/a', entity_id => 'customer-2')$$);
SELECT count(*) FROM allsource.es_create_stream('streams/no-entity');
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('streams/no-entity', entity_id => 'customer-2')$$);

-- Tenants share names, not streams.
SELECT count(*) FROM allsource.es_create_stream('streams/a', 'other', 'customer-9');
SELECT tenant_id, entity_id, stream_no = :first_no AS same_stream FROM allsource.es_stream('streams/a', 'other');
EXECUTE row_of('streams/a', 'nobody');

-- No such stream: no row, and no watermark.
SELECT * FROM allsource.es_stream('streams/none');
SELECT allsource.es_stream_watermark('streams/none') IS NULL AS none,
       allsource.es_stream_watermark('streams/a', 'nobody') IS NULL AS none_of_this_tenant;

-- A stream without events is at version 0. Each append moves it on.
SELECT allsource.es_stream_watermark('streams/a');
SELECT allsource.es_append_many('streams/a', ARRAY['x', 'x'], ARRAY['1', '2']::jsonb[]);
SELECT allsource.es_stream_watermark('streams/a'), allsource.es_stream_watermark('streams/a', 'other');
EXECUTE row_of('streams/a', 'default');
SELECT updated_at > created_at AS later, updated_at <= clock_timestamp() AS not_ahead FROM allsource.es_stream('streams/a');

-- A page of a partition. Names are in the order of their bytes, upper case before lower.
CREATE TEMPORARY TABLE mine AS
SELECT 'streams/' || n AS name
  FROM unnest(ARRAY['Z', 'b', 'é', 'Ω', 'B']) AS letter, generate_series(1, 500) AS i, concat(letter, i) AS n
 WHERE allsource.es_partition('streams/' || n) = 7
 ORDER BY letter, i;
SELECT count(*) AS made FROM mine, allsource.es_create_stream(mine.name);
SELECT array_agg(stream_id) = (SELECT array_agg(name ORDER BY name COLLATE "C") FROM mine) AS all_in_order
  FROM allsource.es_streams(7) WHERE stream_id LIKE 'streams/%' AND tenant_id = 'default';

-- Pages continue after a name, which need not be one of a stream.
SELECT stream_id FROM allsource.es_streams(7, 'streams/', 4);
SELECT stream_id FROM allsource.es_streams(7, 'streams/B277', 3);
SELECT count(*) FROM allsource.es_streams(7, 'streams/ω');

-- Tenants of one name stay together: the page is longer instead, so that "after" never skips one.
SELECT count(*) FROM unnest(ARRAY['tenant-1', 'tenant-2']) AS tenant, allsource.es_create_stream('streams/B110', tenant);
SELECT stream_id, tenant_id FROM allsource.es_streams(7, 'streams/', 1) ORDER BY 1, 2;
SELECT stream_id, tenant_id FROM allsource.es_streams(7, 'streams/', 3) ORDER BY 1, 2;
SELECT stream_id, tenant_id FROM allsource.es_streams(7, 'streams/B110', 1);

-- NULL for the limit: all.
SELECT count(*) = (SELECT count(*) FROM mine) + 2 AS all_without_limit
  FROM allsource.es_streams(7, NULL, NULL) WHERE stream_id LIKE 'streams/%';

-- Every partition together holds every stream.
SELECT count(*) = (SELECT count(*) FROM allsource.event_streams) AS complete
  FROM generate_series(0, 31) AS p, allsource.es_streams(p, max_count => NULL) AS s
 WHERE s.partition_id = p;
