-- What users query.

-- One arm for each partition, so that a condition on the stream reaches the indexes of each, and
-- one on partition_id leaves the other arms out. A single join of the partitioned tables would be
-- estimated as 32 times 32 leaves, and read whole leaves instead.
DO $events$
BEGIN
    EXECUTE (
        SELECT 'CREATE VIEW allsource.events WITH (security_invoker = true) AS '
               || string_agg(format($arm$
                   SELECT l."position" + e.ordinal - 1 AS "position",
                          s.stream_id,
                          l.first_version + e.ordinal - 1 AS version,
                          s.tenant_id,
                          e.event_type,
                          s.entity_id,
                          e.payload,
                          e.metadata,
                          CASE WHEN l.timestamps IS NULL THEN l."timestamp" ELSE e."timestamp" END AS "timestamp",
                          e.event_id,
                          %1$s AS partition_id
                     FROM allsource.event_streams s
                     JOIN allsource.event_log l
                       ON l.partition_id = %1$s
                      AND l.stream_no = s.stream_no
                    CROSS JOIN LATERAL ROWS FROM (
                              unnest(l.event_types),
                              unnest(l.payloads),
                              unnest(l.metadata),
                              unnest(l.event_ids),
                              unnest(l.timestamps)
                          ) WITH ORDINALITY AS e (event_type, payload, metadata, event_id, "timestamp", ordinal)
                    WHERE s.partition_id = %1$s
                   $arm$, p), ' UNION ALL ' ORDER BY p)
          FROM generate_series(0, 31) AS p
    );
END
$events$;

COMMENT ON VIEW allsource.events IS 'one row per event; to follow the store as it grows use es_read_all, which never misses one';
COMMENT ON COLUMN allsource.events."position" IS 'place in the whole store; grows in append order, may skip numbers, never repeats';
COMMENT ON COLUMN allsource.events.version IS 'number in its stream: 1, 2, 3, without a gap';

CREATE FUNCTION allsource.es_hot_partitions() RETURNS TABLE (
    partition_id       int4,
    state              text,
    since              timestamptz,
    restored           bool,
    settled_batch      int8,
    batches            int8,
    events             int8,
    bytes              int8,
    oldest_written_at  timestamptz,
    taken_events       int8,
    settled_events     int8,
    sidecar_lag        int8,
    last_error         text
)
LANGUAGE c STABLE PARALLEL SAFE COST 1000 ROWS 32
AS 'MODULE_PATHNAME', 'es_hot_partitions';

COMMENT ON FUNCTION allsource.es_hot_partitions IS 'a row for each partition that is or was hot: its state, what its batches hold, and how far the sidecar is behind them';

CREATE VIEW allsource.hot_partitions_status WITH (security_invoker = true) AS
SELECT * FROM allsource.es_hot_partitions();

COMMENT ON VIEW allsource.hot_partitions_status IS 'a row for each partition that is or was hot: its state, what its batches hold, and how far the sidecar is behind them';

CREATE VIEW allsource.partition_stats WITH (security_invoker = true) AS
SELECT p.partition_id,
       s.stream_count,
       s.settled_events + u.unsettled_events AS total_events,
       u.unsettled_events,
       l.last_position,
       s.last_append_at,
       z.size_bytes
  FROM generate_series(0, 31) AS p (partition_id)
  LEFT JOIN allsource.es_hot_partitions() AS b ON b.partition_id = p.partition_id
 CROSS JOIN LATERAL (
           SELECT count(*) AS stream_count,
                  COALESCE(sum(h.current_version), 0)::int8 AS settled_events,
                  COALESCE(sum(h.settled_events) FILTER (WHERE h.settled_batch > b.settled_batch), 0)::int8 AS counted_twice,
                  max(h.updated_at) FILTER (WHERE h.current_version > 0) AS last_append_at
             FROM allsource.event_streams h
            WHERE h.partition_id = p.partition_id
       ) AS s
 CROSS JOIN LATERAL (
           SELECT GREATEST(COALESCE(b.events, 0) - s.counted_twice, 0) AS unsettled_events
       ) AS u
  LEFT JOIN LATERAL (
           SELECT r."position" + cardinality(r.event_types) - 1 AS last_position
             FROM allsource.event_log r
            WHERE r.partition_id = p.partition_id
            ORDER BY r."position" DESC
            LIMIT 1
       ) AS l ON true
 CROSS JOIN LATERAL (
           SELECT sum(pg_total_relation_size(c.oid))::int8 AS size_bytes
             FROM unnest(ARRAY['event_streams', 'event_log', 'event_ids', 'hot_batches']) AS t (name)
             JOIN pg_class c
               ON c.relname = (t.name || '_p' || lpad(p.partition_id::text, 2, '0'))::name
             JOIN pg_namespace n
               ON n.oid = c.relnamespace AND n.nspname = 'allsource'
       ) AS z;

COMMENT ON VIEW allsource.partition_stats IS 'always 32 rows: what each partition holds; counts are exact and read every stream''s row';
