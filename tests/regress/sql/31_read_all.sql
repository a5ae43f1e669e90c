-- es_read_all and es_safe_position: the whole store, in the order of positions.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- Positions count from what is there already.
SELECT allsource.es_safe_position() AS start \gset
SELECT count(*) FROM allsource.es_read_all(:start);
PREPARE all_after(bigint, bigint, int[], text[], text) AS
SELECT "position" - :start AS "position", stream_id, version, tenant_id, event_type, payload
  FROM allsource.es_read_all($1 + :start, $2, $3, $4, $5);

-- Runs of 1, 3 and 2 in three partitions, then another of 2 in the first one.
SELECT allsource.es_append('all/a', 'x', '1');
SELECT allsource.es_append_many('all/b', '{x,y,z}', '{2,3,4}');
SELECT allsource.es_append_many('all/d', '{y,y}', '{5,6}', tenant_id => 'tenant-1');
SELECT allsource.es_append_many('all/a', '{z,x}', '{7,8}', ARRAY['{"m": 7}', NULL]::jsonb[],
                                event_ids => ARRAY[NULL, '00000000-0000-0000-0000-000000000008']::uuid[]);
SELECT allsource.es_partition('all/a') AS a, allsource.es_partition('all/b') AS b, allsource.es_partition('all/d') AS d \gset
SELECT :a AS a, :b AS b, :d AS d;

EXECUTE all_after(0, NULL, NULL, NULL, NULL);
SELECT allsource.es_safe_position() - :start AS safe;

-- The same columns as es_read and the view.
SELECT count(*) FROM (
    TABLE allsource.events EXCEPT ALL SELECT * FROM allsource.es_read_all(0, NULL)
    UNION ALL (SELECT * FROM allsource.es_read_all(0, NULL) EXCEPT ALL TABLE allsource.events)
) AS differences;

-- Continuing: after each event, in the middle of a run too.
EXECUTE all_after(2, 2, NULL, NULL, NULL);
EXECUTE all_after(4, 3, NULL, NULL, NULL);
EXECUTE all_after(8, 3, NULL, NULL, NULL);
EXECUTE all_after(1000000000, NULL, NULL, NULL, NULL);
SELECT count(*) FROM allsource.es_read_all(9223372036854775807);
-- Every place to continue from, with every limit.
SELECT count(*) AS tried, count(*) FILTER (WHERE got IS DISTINCT FROM wanted) AS wrong
  FROM generate_series(0, 8) AS a, generate_series(1, 9) AS c,
       LATERAL (SELECT string_agg(payload::text, ' ') FROM allsource.es_read_all(:start + a, c)) AS g (got),
       LATERAL (SELECT string_agg(i::text, ' ') FROM generate_series(a + 1, least(a + c, 8)) AS i) AS w (wanted);

-- Filters. max_count counts what passes them.
EXECUTE all_after(0, 10, ARRAY[:a], NULL, NULL);
EXECUTE all_after(0, 10, ARRAY[:d, :b, :d], NULL, NULL);
EXECUTE all_after(0, 10, NULL, '{z}', NULL);
EXECUTE all_after(0, 10, NULL, '{z,nothing,x,z}', NULL);
EXECUTE all_after(0, 10, NULL, NULL, 'tenant-1');
EXECUTE all_after(0, 10, NULL, '{y}', 'default');
EXECUTE all_after(2, 2, ARRAY[:a, :b], '{x,z}', 'default');
-- Empty filters let nothing pass.
EXECUTE all_after(0, 10, '{}', NULL, NULL);
EXECUTE all_after(0, 10, NULL, '{}', NULL);
EXECUTE all_after(0, 10, NULL, ARRAY[''], NULL);

-- The limit is 1000 when none is given.
SELECT allsource.es_append_many('all/long', array_agg('t' || i % 2), array_agg(to_jsonb(i) ORDER BY i)) FROM generate_series(1, 2500) AS i;
SELECT count(*), min("position") - :start AS first, max("position") - :start AS last FROM allsource.es_read_all(:start);
SELECT count(*), min("position") - :start AS first, max("position") - :start AS last FROM allsource.es_read_all(:start, NULL);
-- Page by page, each from where the one before ended: none missed, none twice.
WITH RECURSIVE pages AS (
    SELECT 1 AS page, (SELECT array_agg("position") FROM allsource.es_read_all(:start, 97)) AS positions
    UNION ALL
    SELECT p.page + 1, (SELECT array_agg("position") FROM allsource.es_read_all(p.positions[cardinality(p.positions)], 97))
      FROM pages p
     WHERE p.positions IS NOT NULL
)
SELECT max(page) AS pages, array_agg(position_read ORDER BY page, ordinality) =
       (SELECT array_agg("position" ORDER BY "position") FROM allsource.es_read_all(:start, NULL)) AS same
  FROM pages, unnest(positions) WITH ORDINALITY AS u (position_read, ordinality);

-- A transaction's own events are not safe before it commits, es_read shows them to it.
BEGIN;
SELECT allsource.es_safe_position() AS before \gset
SELECT allsource.es_append('all/open', 'x', '1');
SELECT allsource.es_safe_position() - :before AS moved, count(*) AS read FROM allsource.es_read_all(:before);
SELECT count(*) FROM allsource.es_read('all/open');
COMMIT;
SELECT allsource.es_safe_position() - :before AS moved, count(*) AS read FROM allsource.es_read_all(:before);

-- A rollback leaves a hole, which is safe to pass.
BEGIN;
SELECT allsource.es_append_many('all/rolled-back', '{x,x,x}', '{1,2,3}');
ROLLBACK;
SELECT allsource.es_append('all/a', 'x', '"after the hole"');
SELECT "position" - :before AS "position", payload FROM allsource.es_read_all(:before);
SELECT allsource.es_safe_position() - :before AS moved;

-- A failed append takes no position before its stream is locked and checked.
SELECT allsource.es_safe_position() AS before \gset
SELECT left(pg_temp.outcome($$SELECT allsource.es_append('all/a', 'x', '{}', expected_version => 99)$$), 5) AS sqlstate;
SELECT allsource.es_safe_position() - :before AS moved;

-- Under REPEATABLE READ: what the transaction's snapshot shows, up to the first event it does not.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) = (SELECT count(*) FROM allsource.events) AS everything FROM allsource.es_read_all(0, NULL);
COMMIT;
