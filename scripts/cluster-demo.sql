-- Loads lines from standard input through a router. Run by cluster-demo.sh, with the variables source (dpkg or git) and
-- style (the lines around tables).

\pset footer off
\pset linestyle :style
SET search_path = allsource, public;
-- A batch takes longer than a single append, for which the demo's timeout is.
SET allsource_router.timeout = '30s';

\ir history.sql

-- A batch has one owner: so many for each, with so many events at most.
CREATE TEMP TABLE batch AS
SELECT e.*, r.group_id, (row_number() OVER (PARTITION BY r.group_id ORDER BY n) - 1) / 20000 AS portion
  FROM event AS e JOIN routes AS r ON r.partition_id = es_partition(e.stream_id);
ANALYZE batch;

SELECT count(*) AS all_events FROM event \gset
\t on
\pset format unaligned
\echo '==> es_append_batch through the router:' :all_events 'events'
SELECT format(
           $$SELECT format('    %%s events written by group %s, to %%s streams', %s, count(*))
               FROM (SELECT array_agg(stream_id ORDER BY n) AS stream_ids, array_agg(event_type ORDER BY n) AS event_types,
                            array_agg(payload ORDER BY n) AS payloads, array_agg(event_id ORDER BY n) AS event_ids
                       FROM batch WHERE group_id = %s AND portion = %s) AS a,
                    es_append_batch(a.stream_ids, a.event_types, a.payloads, event_ids => a.event_ids)$$,
           group_id, count(*), group_id, portion)
  FROM batch GROUP BY group_id, portion ORDER BY group_id, portion \gexec
