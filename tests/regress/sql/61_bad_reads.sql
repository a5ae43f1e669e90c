-- What bad arguments of the reading functions get.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
\pset format unaligned
\pset tuples_only

SELECT allsource.es_append('badreads/a', 'x', '1');

-- es_read.
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read(NULL)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read(repeat('n', 256))$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('badreads/a', 0)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('badreads/a', -1, backward => true)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('badreads/a', 1, 0)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('badreads/a', 1, -9223372036854775808)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('badreads/a', tenant_id => NULL)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('badreads/a', tenant_id => '')$$);
-- Bad arguments are bad for streams that are not there as well.
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('badreads/none', 0)$$);

-- es_read_all.
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(-1)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(0, 0)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(0, -5)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(partition_ids => '{32}')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(partition_ids => '{0,-1}')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(partition_ids => '{0,NULL}')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(partition_ids => '{{1,2}}')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(event_types => '{x,NULL}')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(event_types => '{{x}}')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(tenant_id => '')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(tenant_id => repeat('t', 256))$$);
-- NULL is from the beginning.
SELECT count(*) FROM allsource.es_read_all(NULL, 1);

-- Streams.
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_stream(NULL)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_stream('')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_stream('badreads/a', '')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_stream_watermark(NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_stream_watermark(repeat('n', 256))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_stream_watermark('badreads/a', NULL)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_streams(NULL)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_streams(-1)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_streams(32)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_streams(0, '')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_streams(0, repeat('n', 256))$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_streams(0, NULL, 0)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_streams(0, NULL, -1)$$);

-- Checking.
SELECT pg_temp.outcome($$SELECT allsource.es_verify_gapless(NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_verify_gapless('')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_verify_gapless('badreads/a', NULL)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_verify(32)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_verify(-1, 'badreads/a')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_verify(stream_id => '')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_verify(stream_id => repeat('n', 256))$$);
