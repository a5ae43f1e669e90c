-- es_read_all_from and es_positions: the whole store, from a position for each partition.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT cardinality(allsource.es_positions()) AS partitions,
       allsource.es_positions() = array_fill(allsource.es_safe_position(), ARRAY[32]) AS are_safe;
SELECT allsource.es_positions() AS start, allsource.es_safe_position() AS safe \gset
SELECT count(*) FROM allsource.es_read_all_from(:'start');

-- Runs of 1, 3 and 2 in three partitions, then another of 2 in the first one.
SELECT allsource.es_append('places/a', 'x', '1');
SELECT allsource.es_append_many('places/b', '{x,y,z}', '{2,3,4}');
SELECT allsource.es_append_many('places/d', '{y,y}', '{5,6}', tenant_id => 'tenant-1');
SELECT allsource.es_append_many('places/a', '{z,x}', '{7,8}');
SELECT allsource.es_partition('places/a') AS a, allsource.es_partition('places/b') AS b, allsource.es_partition('places/d') AS d \gset
SELECT :a AS a, :b AS b, :d AS d;

-- Where a reader is after what it has read, given where it was.
CREATE FUNCTION pg_temp.behind(places int8[], read allsource.events[]) RETURNS int8[]
BEGIN ATOMIC
    SELECT array_agg(greatest(place, (SELECT max(e."position") FROM unnest(read) AS e WHERE e.partition_id = ordinal - 1))
                     ORDER BY ordinal)
      FROM unnest(places) WITH ORDINALITY AS p (place, ordinal);
END;

-- As es_read_all, and with its filters.
SELECT stream_id, version, "position" - :safe AS "position", payload FROM allsource.es_read_all_from(:'start');
SELECT string_agg(payload::text, ' ') FROM allsource.es_read_all_from(:'start', NULL, ARRAY[:a]);
SELECT string_agg(payload::text, ' ') FROM allsource.es_read_all_from(:'start', 3, ARRAY[:a, :d], '{x,y}');
SELECT string_agg(payload::text, ' ') FROM allsource.es_read_all_from(:'start', tenant_id => 'tenant-1');
SELECT count(*) FROM (
    TABLE allsource.events EXCEPT ALL SELECT * FROM allsource.es_read_all_from(array_fill(0::int8, ARRAY[32]), NULL)
) AS missing;

-- A partition is further than the others; in the middle of a run, too.
WITH places AS (SELECT array_agg(:safe + CASE p WHEN :a THEN 7 WHEN :b THEN 2 ELSE 0 END ORDER BY p) AS p FROM generate_series(0, 31) AS p)
SELECT string_agg(payload::text, ' ') FROM places, allsource.es_read_all_from(places.p);
-- NULL: not read.
WITH places AS (SELECT array_agg(CASE p WHEN :a THEN NULL ELSE :safe END ORDER BY p) AS p FROM generate_series(0, 31) AS p)
SELECT string_agg(payload::text, ' ') FROM places, allsource.es_read_all_from(places.p);
SELECT count(*) FROM allsource.es_read_all_from(array_fill(NULL::int8, ARRAY[32]));
-- Behind everything.
SELECT count(*) FROM allsource.es_read_all_from(array_fill(9223372036854775807, ARRAY[32]));

-- Reading on in pages of any size gives everything once, and in order.
DO $$
DECLARE
    places int8[];
    page allsource.events[];
    got text;
    start constant int8 := (SELECT min("position") - 1 FROM allsource.events WHERE stream_id = 'places/a');
BEGIN
    FOR size IN 1 .. 9 LOOP
        places := array_fill(start, ARRAY[32]);
        got := '';
        LOOP
            SELECT array_agg(e) INTO page FROM allsource.es_read_all_from(places, size) AS e;
            EXIT WHEN page IS NULL;
            got := got || (SELECT string_agg(' ' || (e).payload::text, '') FROM unnest(page) AS e);
            places := pg_temp.behind(places, page);
        END LOOP;
        IF got <> ' 1 2 3 4 5 6 7 8' THEN
            RAISE 'pages of %: %', size, got;
        END IF;
    END LOOP;
END
$$;

-- Bad arguments.
SELECT pg_temp.outcome(format('SELECT allsource.es_read_all_from(%L::int8[])', places))
  FROM (VALUES (NULL), ('{}'), ('{1,2}'), (array_fill(0, ARRAY[33])::text), (array_fill(0, ARRAY[2, 16])::text),
               (array_fill(-1, ARRAY[32])::text)) AS bad (places);
SELECT pg_temp.outcome(format('SELECT allsource.es_read_all_from(%L::int8[], %s)', array_fill(0, ARRAY[32]), rest))
  FROM (VALUES ('0'), ('1, ''{32}''')) AS bad (rest);
