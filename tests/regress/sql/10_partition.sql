-- es_partition, and the constants for expected versions.

-- Golden values: they must never change, with any version of anything.
SELECT name, allsource.es_partition(name) AS partition_id
  FROM unnest(ARRAY['', 'a', 'order-1', 'order-2', 'account-4711', 'Bestellung-Ä', '注文-42']) AS name;

-- The name's bytes decide, not how they are stored: plain, compressed, out of line.
CREATE TEMPORARY TABLE names (stored text, name text);
INSERT INTO names VALUES ('plain', repeat('n', 100)), ('compressed', repeat('n', 3000));
ALTER TABLE names ALTER name SET STORAGE EXTERNAL;
INSERT INTO names VALUES ('out of line', repeat('n', 2999) || 'n');
SELECT stored, length(name), pg_column_size(name) < length(name) AS compressed,
       allsource.es_partition(name) = allsource.es_partition(repeat('n', length(name))) AS same
  FROM names;

-- A partition needs no stream to be there, and NULL has none.
SELECT allsource.es_partition(NULL) IS NULL AS null_has_none;

-- Always 0 to 31, and all of them in use; 32,000 names are spread evenly enough.
SELECT min(n) > 800 AS none_short, max(n) < 1200 AS none_crowded,
       count(*), min(p), max(p)
  FROM (
           SELECT allsource.es_partition('stream-' || i) AS p, count(*) AS n
             FROM generate_series(1, 32000) AS i
            GROUP BY 1
       ) AS spread;

-- Immutable: an index can be built on it, and a query with a constant finds the leaf in planning.
CREATE INDEX ON names (allsource.es_partition(name));
EXPLAIN (COSTS OFF)
SELECT stream_no FROM allsource.event_streams WHERE partition_id = allsource.es_partition('order-1');

-- Functions that stand where an expected version is asked for.
SELECT allsource.es_any() AS "any", allsource.es_no_stream() AS no_stream, allsource.es_stream_exists() AS stream_exists;
SELECT pg_typeof(allsource.es_any()), pg_typeof(allsource.es_no_stream()), pg_typeof(allsource.es_stream_exists());
