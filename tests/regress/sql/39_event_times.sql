-- Events of one run that have different times: what reads them gives each its own.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
SET timezone = 'UTC';

-- Runs of 3, 4 and 2 events; no function of this release gives times, so the owner of the tables writes
-- them into the first two runs.
SELECT allsource.es_safe_position() AS start \gset
SELECT allsource.es_append_many('times/a', '{x,y,x}', '{1,2,3}');
SELECT allsource.es_append_many('times/a', '{x,y,x,y}', '{4,5,6,7}', ARRAY[NULL, '{"m": 5}', NULL, NULL]::jsonb[]);
SELECT allsource.es_append_many('times/a', '{x,y}', '{8,9}');
SELECT count(*) AS runs, count(timestamps) AS with_times FROM allsource.event_log
 WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('times/a'));
UPDATE allsource.event_log l
   SET "timestamp" = t.times[1], timestamps = t.times
  FROM (VALUES (1, '{2020-01-01 00:00:01.000001,2020-01-01 00:00:02,2020-01-01 00:00:02}'::timestamptz[]),
               (4, '{2020-01-01 00:00:04,-infinity,1999-12-31 23:59:59.999999,infinity}')) AS t (first_version, times)
 WHERE l.stream_no = (SELECT stream_no FROM allsource.es_stream('times/a')) AND l.first_version = t.first_version;
UPDATE allsource.event_log l
   SET "timestamp" = '2020-01-01 00:00:08'
 WHERE l.stream_no = (SELECT stream_no FROM allsource.es_stream('times/a')) AND l.first_version = 8;
SELECT version, kind FROM allsource.es_verify(stream_id => 'times/a');
UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l)
 WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('times/a'));
SELECT count(*) FROM allsource.es_verify(stream_id => 'times/a');
SELECT allsource.es_verify_gapless('times/a');

-- By stream: all of it, from the middle of a run, and backward.
SELECT version, event_type, "timestamp" FROM allsource.es_read('times/a');
SELECT version, "timestamp" FROM allsource.es_read('times/a', 3, 3);
SELECT version, "timestamp" FROM allsource.es_read('times/a', 6, 5, backward => true);

-- The store: from the middle of a run, and with a filter.
SELECT version, "timestamp" FROM allsource.es_read_all(:start + 4, 4);
SELECT version, "timestamp" FROM allsource.es_read_all(:start, event_types => '{y}');

-- The view gives the same.
SELECT count(*) AS differences FROM (
    SELECT * FROM allsource.events WHERE stream_id = 'times/a' EXCEPT ALL SELECT * FROM allsource.es_read('times/a')
    UNION ALL (SELECT * FROM allsource.es_read('times/a') EXCEPT ALL SELECT * FROM allsource.events WHERE stream_id = 'times/a')
) AS d;
SELECT count(*) AS differences FROM (
    SELECT * FROM allsource.events WHERE stream_id = 'times/a' EXCEPT ALL SELECT * FROM allsource.es_read_all(:start)
) AS d;
SELECT version, "timestamp" FROM allsource.events WHERE stream_id = 'times/a' AND "timestamp" < '2020-01-01 00:00:02' ORDER BY version;

-- The stream goes on as any other.
SELECT allsource.es_append('times/a', 'x', '10', expected_version => 9);
SELECT timestamps IS NULL AS no_times, "timestamp" > '2020-01-02' AS now FROM allsource.event_log
 WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('times/a')) AND first_version = 10;
SELECT count(*) FROM allsource.es_verify(allsource.es_partition('times/a'));
