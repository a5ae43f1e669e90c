-- The query of es_verify. $1: partition or NULL, $2: stream or NULL, $3: whether this is a member of a
-- cluster, where positions are only of one partition, $4: partitions to be passed over. Runs with search_path
-- pg_catalog, pg_temp. Sums are numeric: what is damaged may be at the limits of bigint.
WITH heads AS (
    SELECT s.*
      FROM allsource.event_streams s
     WHERE ($1 IS NULL OR s.partition_id = $1)
       AND ($2 IS NULL OR s.stream_id = $2)
       AND s.partition_id <> ALL ($4)
), runs AS (
    SELECT l.partition_id, l.stream_no, l.first_version, l."position",
           cardinality(l.event_types)::numeric AS len,
           cardinality(l.payloads) = cardinality(l.event_types)
               AND cardinality(l.event_types) > 0
               AND (l.metadata IS NULL OR cardinality(l.metadata) = cardinality(l.event_types))
               AND (l.event_ids IS NULL OR cardinality(l.event_ids) = cardinality(l.event_types))
               AND (l.timestamps IS NULL OR cardinality(l.timestamps) = cardinality(l.event_types))
               AS is_whole,
           l.checksum AS stored,
           allsource.es_run_checksum(l) AS computed,
           l.event_ids
      FROM allsource.event_log l
     WHERE ($1 IS NULL OR l.partition_id = $1)
       AND l.partition_id <> ALL ($4)
       AND ($2 IS NULL OR l.stream_no IN (SELECT h.stream_no FROM heads h))
), ordered AS (
    SELECT r.*, h.tenant_id, h.stream_id,
           h.stream_no IS NULL AS is_orphan,
           lag(r.first_version + r.len, 1, 1::numeric) OVER stream AS wanted_version,
           lag(r."position" + r.len, 1, 1::numeric) OVER stream AS lowest_position,
           lag(r."position" + r.len, 1, 1::numeric) OVER (PARTITION BY CASE WHEN $3 THEN r.partition_id END ORDER BY r."position") AS free_position
      FROM runs r
      LEFT JOIN heads h ON h.partition_id = r.partition_id AND h.stream_no = r.stream_no
    WINDOW stream AS (PARTITION BY r.partition_id, r.stream_no ORDER BY r.first_version)
), tails AS (
    SELECT r.partition_id, r.stream_no, max(r.first_version + r.len - 1) AS version
      FROM runs r
     GROUP BY r.partition_id, r.stream_no
)
SELECT o.tenant_id, o.stream_id, 'gap' AS kind, o."position", o.first_version AS version,
       format('versions %s to %s are missing', o.wanted_version, o.first_version::numeric - 1) AS detail
  FROM ordered o
 WHERE o.first_version > o.wanted_version
UNION ALL
SELECT o.tenant_id, o.stream_id, 'overlap', o."position", o.first_version,
       format('versions %s to %s are there twice', o.first_version, o.wanted_version - 1)
  FROM ordered o
 WHERE o.first_version < o.wanted_version
UNION ALL
SELECT o.tenant_id, o.stream_id, 'position out of order', o."position", o.first_version,
       format('the events before it in the stream reach position %s', o.lowest_position - 1)
  FROM ordered o
 WHERE o."position" < o.lowest_position
UNION ALL
SELECT o.tenant_id, o.stream_id, 'position taken twice', o."position", o.first_version,
       format('another run reaches position %s', o.free_position - 1)
  FROM ordered o
 WHERE o."position" < o.free_position AND o."position" >= o.lowest_position
UNION ALL
SELECT o.tenant_id, o.stream_id, 'checksum', o."position", o.first_version,
       CASE WHEN o.is_whole THEN format('stored %s, computed %s', o.stored, coalesce(o.computed::text, 'none'))
            ELSE 'the columns of the run differ in length' END
  FROM ordered o
 WHERE o.computed IS DISTINCT FROM o.stored OR NOT o.is_whole
UNION ALL
SELECT NULL, NULL, 'orphan', o."position", o.first_version,
       format('run of stream number %s in partition %s, which has no such stream', o.stream_no, o.partition_id)
  FROM ordered o
 WHERE o.is_orphan
UNION ALL
SELECT h.tenant_id, h.stream_id, 'head differs from log', NULL, h.current_version,
       format('current version %s, watermark %s, last version in the log %s',
              h.current_version, h.watermark, coalesce(t.version, 0))
  FROM heads h
  LEFT JOIN tails t ON t.partition_id = h.partition_id AND t.stream_no = h.stream_no
 WHERE h.current_version <> coalesce(t.version, 0) OR h.watermark > h.current_version
UNION ALL
SELECT h.tenant_id, h.stream_id, 'misplaced', NULL, NULL,
       format('stands in partition %s with number %s, belongs to partition %s',
              h.partition_id, h.stream_no, allsource.es_partition(h.stream_id))
  FROM heads h
 WHERE h.partition_id <> allsource.es_partition(h.stream_id) OR h.stream_no >> 58 <> h.partition_id
UNION ALL
SELECT h.tenant_id, h.stream_id, 'event id', NULL, coalesce(i.version, CASE WHEN e.version <= 9223372036854775807 THEN e.version::int8 END),
       format('event %s is at version %s in event_ids, %s in the log',
              coalesce(i.event_id, e.event_id), coalesce(i.version::text, 'none'), coalesce(e.version::text, 'none'))
  FROM (
           SELECT r.partition_id, r.stream_no, u.event_id, r.first_version::numeric + u.ordinal - 1 AS version
             FROM runs r
            CROSS JOIN LATERAL unnest(r.event_ids) WITH ORDINALITY AS u (event_id, ordinal)
            WHERE u.event_id IS NOT NULL
       ) AS e
  FULL JOIN (
           SELECT d.*
             FROM allsource.event_ids d
            WHERE ($1 IS NULL OR d.partition_id = $1)
              AND d.partition_id <> ALL ($4)
              AND ($2 IS NULL OR d.stream_no IN (SELECT h.stream_no FROM heads h))
       ) AS i
    ON i.partition_id = e.partition_id AND i.stream_no = e.stream_no AND i.event_id = e.event_id
  LEFT JOIN heads h
    ON h.partition_id = coalesce(i.partition_id, e.partition_id)
   AND h.stream_no = coalesce(i.stream_no, e.stream_no)
 WHERE i.version IS DISTINCT FROM e.version
 ORDER BY 1, 2, 5, 3
