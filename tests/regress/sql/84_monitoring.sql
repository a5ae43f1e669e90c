-- The shape of what the server tells of itself: names, not numbers.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_enqueue('monitoring/a', 'x', '1', durable => true);
-- Checks. All is well on this server.
SELECT name, ok, detail <> '' AS has_detail FROM allsource.es_health();
-- The queues, each with its worker; however many there are.
SELECT count(*) = current_setting('allsource.workers')::int AS all_there, bool_and(pid IS NOT NULL) AS run,
       bool_and(state IN ('idle', 'draining')) AS work, sum(depth_events) AS depth_events, sum(depth_bytes) AS depth_bytes,
       bool_and(capacity_bytes = pg_size_bytes(current_setting('allsource.queue_size'))) AS capacity, sum(enqueued) > 0 AS enqueued,
       sum(drained) > 0 AS drained, sum(batches) > 0 AS batches, max(largest_batch) > 0 AS largest_batch,
       count(last_error) AS errors, sum(lag) AS lag
  FROM allsource.queue_stats;
SELECT count(*) = current_setting('allsource.workers')::int AS all_there, bool_and(a.backend_type = format('allsource worker %s', q.worker)) AS named,
       bool_and(a.datname = current_database()) AS here
  FROM allsource.queue_stats q JOIN pg_stat_activity a USING (pid);
SELECT count(*), count(datname) FROM pg_stat_activity WHERE backend_type = 'allsource launcher';
-- Metrics: every name with its labels; and all numbers are there, but for percentiles of nothing.
SELECT name, string_agg(DISTINCT (SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_object_keys(labels) AS key), '; ') AS labels,
       count(*) / CASE WHEN bool_and(labels ? 'worker') THEN (SELECT count(*) FROM allsource.queue_stats) ELSE 1 END AS count
  FROM allsource.metrics GROUP BY name ORDER BY name COLLATE "C";
SELECT DISTINCT labels ->> 'function' AS function FROM allsource.metrics WHERE name = 'allsource_calls_total' ORDER BY 1;
SELECT DISTINCT labels ->> 'kind' AS kind FROM allsource.metrics WHERE name = 'allsource_errors_total' ORDER BY 1;
SELECT labels FROM allsource.metrics WHERE name = 'allsource_events_per_second' ORDER BY labels::text COLLATE "C";
SELECT labels FROM allsource.metrics WHERE name = 'allsource_latency_percentile_seconds' ORDER BY labels::text COLLATE "C";
SELECT name FROM allsource.metrics WHERE value < 0 OR value IS NULL OR (value = 'NaN' AND name <> 'allsource_latency_percentile_seconds');
SELECT count(*) FROM (SELECT name, labels FROM allsource.metrics GROUP BY 1, 2 HAVING count(*) > 1) AS twice;
-- As text: what each family is.
SELECT line FROM string_to_table(allsource.es_metrics_prometheus(), E'\n') AS line WHERE line LIKE '# %' ORDER BY split_part(line, ' ', 3) COLLATE "C", line COLLATE "C";
SELECT count(*) FILTER (WHERE line !~ '^([a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (NaN|\+Inf|[-+0-9.e]+)|# (HELP|TYPE) [a-z_]+ .+|)$') AS malformed,
       count(*) FILTER (WHERE line ~ '^[a-z]') = (SELECT count(*) FROM allsource.metrics) AS same_samples
  FROM string_to_table(allsource.es_metrics_prometheus(), E'\n') AS line;
-- What the workers record for standbys.
SELECT count(*), bool_and(only_row) FROM allsource.safe_position;
SELECT pg_temp.outcome('INSERT INTO allsource.safe_position VALUES (false)');
SELECT left(pg_temp.outcome('INSERT INTO allsource.safe_position DEFAULT VALUES'), 5);
