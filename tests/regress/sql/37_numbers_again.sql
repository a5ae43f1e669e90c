-- A stream number that is given again, because an owner has deleted streams and set the sequence back: a session that
-- has read the old stream gives the events the new one's name.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

CREATE TEMP TABLE names AS
SELECT name, row_number() OVER () AS n
  FROM (SELECT 'again/' || i AS name FROM generate_series(1, 1000) i) AS all_names
 WHERE allsource.es_partition(name) = 5 LIMIT 4;
SELECT max(n) FROM names;
CREATE FUNCTION pg_temp.append(wanted bigint) RETURNS bigint LANGUAGE sql AS
    $$SELECT allsource.es_append(name, 'x', '1') FROM names WHERE n = wanted$$;
CREATE FUNCTION pg_temp.read(after bigint) RETURNS TABLE (n bigint, version bigint) LANGUAGE sql AS
    $$SELECT n, version FROM allsource.es_read_all(after, NULL, '{5}') JOIN names ON name = stream_id ORDER BY "position"$$;
CREATE TEMP TABLE before AS SELECT last_value, is_called FROM allsource.stream_no_seq;
CREATE PROCEDURE pg_temp.start_again() LANGUAGE sql AS $$
    DELETE FROM allsource.event_log WHERE stream_no IN (SELECT stream_no FROM allsource.event_streams JOIN names ON name = stream_id);
    DELETE FROM allsource.event_streams WHERE stream_id IN (SELECT name FROM names);
    SELECT setval('allsource.stream_no_seq', last_value, is_called) FROM before;
$$;
SELECT allsource.es_safe_position() AS start \gset

SELECT pg_temp.append(1);
SELECT pg_temp.append(1);
SELECT * FROM pg_temp.read(:start);
SELECT stream_no AS first_no FROM allsource.event_streams JOIN names ON name = stream_id \gset
SELECT allsource.es_safe_position() AS start \gset

-- The reader continues.
CALL pg_temp.start_again();
SELECT pg_temp.append(2);
SELECT stream_no = :first_no AS given_again FROM allsource.event_streams JOIN names ON name = stream_id;
SELECT * FROM pg_temp.read(:start);

-- The reader begins at the start.
CALL pg_temp.start_again();
SELECT pg_temp.append(3);
SELECT * FROM pg_temp.read(0);
SELECT allsource.es_safe_position() AS start \gset

-- The reader goes on behind the new stream's first run, which it has not seen.
CALL pg_temp.start_again();
SELECT pg_temp.append(4);
SELECT allsource.es_safe_position() AS start \gset
SELECT pg_temp.append(4);
SELECT * FROM pg_temp.read(:start);
SELECT * FROM pg_temp.read(0);
CALL pg_temp.start_again();
