-- es_read: one stream, by versions.

-- A stream of 12 events in runs of 1, 4, 2 and 5.
SELECT allsource.es_append('read/a', 'single', '1', '{"m": 1}', entity_id => 'entity-1');
SELECT allsource.es_append_many('read/a', array_agg('four'::text), array_agg(to_jsonb(i) ORDER BY i)) FROM generate_series(2, 5) AS i;
SELECT allsource.es_append_many('read/a', array_agg('two'::text), array_agg(to_jsonb(i) ORDER BY i)) FROM generate_series(6, 7) AS i;
SELECT allsource.es_append_many('read/a', array_agg('five'::text), array_agg(to_jsonb(i) ORDER BY i)) FROM generate_series(8, 12) AS i;
SELECT first_version, cardinality(event_types) AS events FROM allsource.event_log
 WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('read/a')) ORDER BY 1;

-- The columns.
SELECT stream_id, version, tenant_id, event_type, entity_id, payload, metadata, event_id, partition_id FROM allsource.es_read('read/a');
SELECT attname, format_type(atttypid, atttypmod) AS type
  FROM pg_attribute WHERE attrelid = 'allsource.events'::regclass AND attnum > 0 ORDER BY attnum;
SELECT count(DISTINCT "timestamp") AS times, bool_and("timestamp" <= clock_timestamp()) AS past FROM allsource.es_read('read/a');

-- Which versions are read. The rows come in that order, without ORDER BY.
CREATE FUNCTION pg_temp.versions(from_version bigint DEFAULT NULL, max_count bigint DEFAULT NULL, backward bool DEFAULT NULL) RETURNS text
LANGUAGE sql RETURN (SELECT string_agg(version::text, ' ' ORDER BY n)
                       FROM allsource.es_read('read/a', from_version, max_count, backward)
                            WITH ORDINALITY AS e ("position", stream_id, version, t, y, i, payload, m, ts, ei, p, n)
                     HAVING bool_and(payload = to_jsonb(version)));
SELECT pg_temp.versions() AS everything;
SELECT pg_temp.versions(1) AS from_1, pg_temp.versions(2) AS from_2, pg_temp.versions(4) AS within_a_run, pg_temp.versions(12) AS last;
SELECT pg_temp.versions(13) IS NULL AS none_beyond, pg_temp.versions(9223372036854775807) IS NULL AS none_far_beyond;
SELECT pg_temp.versions(max_count => 1) AS one, pg_temp.versions(max_count => 3) AS three, pg_temp.versions(max_count => 5) AS five,
       pg_temp.versions(max_count => 12) AS twelve, pg_temp.versions(max_count => 9223372036854775807) AS most;
SELECT pg_temp.versions(3, 2) AS within_a_run, pg_temp.versions(4, 5) AS over_three_runs, pg_temp.versions(12, 100) AS last,
       pg_temp.versions(2, 4) AS exactly_a_run, pg_temp.versions(2, 9223372036854775807) AS no_overflow;

-- Backward: from the end, or down from a version.
SELECT pg_temp.versions(backward => true) AS everything;
SELECT pg_temp.versions(12, NULL, true) AS from_12, pg_temp.versions(9, NULL, true) AS within_a_run;
SELECT pg_temp.versions(1, NULL, true) AS first, pg_temp.versions(13, 2, true) AS from_beyond,
       pg_temp.versions(9223372036854775807, 2, true) AS from_far_beyond;
SELECT pg_temp.versions(NULL, 1, true) AS one, pg_temp.versions(NULL, 5, true) AS five, pg_temp.versions(NULL, 6, true) AS six,
       pg_temp.versions(9, 5, true) AS over_three_runs, pg_temp.versions(4, 2, true) AS within_a_run,
       pg_temp.versions(2, 9223372036854775807, true) AS no_overflow;

-- Every range, forward and backward, against a filter on the view.
SELECT count(*) AS ranges, count(*) FILTER (WHERE got IS DISTINCT FROM wanted) AS wrong
  FROM generate_series(1, 14) AS f, generate_series(1, 14) AS c, (VALUES (false), (true)) AS d (backward),
       LATERAL (SELECT pg_temp.versions(f, c, backward)) AS g (got),
       LATERAL (
           SELECT string_agg(version::text, ' ' ORDER BY n)
             FROM (
                      SELECT version, row_number() OVER (ORDER BY CASE WHEN backward THEN -version ELSE version END) AS n
                        FROM allsource.events
                       WHERE stream_id = 'read/a' AND CASE WHEN backward THEN version <= f ELSE version >= f END
                  ) AS v
            WHERE n <= c
       ) AS w (wanted);

-- NULLs: no limit, forward, from the beginning.
SELECT count(*) FROM allsource.es_read('read/a', NULL, NULL, NULL);

-- Tenants.
SELECT allsource.es_append('read/a', 'other', '"other"', tenant_id => 'tenant-1');
SELECT stream_id, version, tenant_id, event_type, entity_id, payload FROM allsource.es_read('read/a', tenant_id => 'tenant-1');
SELECT count(*) FROM allsource.es_read('read/a', tenant_id => 'nobody');

-- Streams that are not there, or are empty, have no events.
SELECT * FROM allsource.es_read('read/none');
SELECT count(*) FROM allsource.es_create_stream('read/empty');
SELECT count(*) FROM allsource.es_read('read/empty');
SELECT count(*) FROM allsource.es_read('read/empty', backward => true);

-- Streams of neighbouring numbers are not mixed up.
SELECT count(*) FROM generate_series(1, 3) AS i, generate_series(1, 64) AS s,
                     allsource.es_append('read/neighbour-' || s, 'x', to_jsonb(s * 10 + i));
SELECT count(*) AS streams, sum(e.events) AS events, bool_and(e.own) AS own_events_only
  FROM generate_series(1, 64) AS s,
       LATERAL (
           SELECT count(*) AS events, array_agg(payload) = ARRAY[to_jsonb(s * 10 + 1), to_jsonb(s * 10 + 2), to_jsonb(s * 10 + 3)] AS own
             FROM allsource.es_read('read/neighbour-' || s)
       ) AS e;

-- In the select list, with a column list, in a lateral join, joined with itself.
SELECT (allsource.es_read('read/a', 11)).version;
SELECT a.version, b.version FROM allsource.es_read('read/a', 1, 2) AS a CROSS JOIN allsource.es_read('read/a', 12, 2, true) AS b;
SELECT allsource.es_read('read/none');
