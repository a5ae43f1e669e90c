-- A session must not wait for workers that wait for it: it has changed a stream, or locked what they write.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
\pset format unaligned
\pset tuples_only
SET statement_timeout = '5s';
SELECT 'event_log_p' || to_char(allsource.es_partition('oneself/a'), 'FM00') AS leaf \gset
SELECT min(n) AS b FROM generate_series(1, 1000) n WHERE allsource.es_partition('oneself/' || n) <> allsource.es_partition('oneself/a') \gset
\set durable 'SELECT allsource.es_enqueue(\'oneself/a\', \'x\', \'1\', durable => true)'
\set flush 'SELECT allsource.es_flush(\'4s\')'

-- What a savepoint has taken back is not held any more.
BEGIN;
SAVEPOINT a;
SELECT allsource.es_append('oneself/a', 'x', '1') > 0 AS appended;
SELECT pg_temp.outcome(:'durable');
ROLLBACK TO a;
SELECT pg_temp.outcome(:'durable');
SAVEPOINT b;
SELECT allsource.es_append('oneself/a', 'x', '1') > 0 AS appended;
RELEASE b;
SELECT pg_temp.outcome(:'durable');
ROLLBACK TO a;
SELECT pg_temp.outcome(:'flush');
SAVEPOINT c;
SELECT allsource.es_append('oneself/a', 'x', '1') > 0 AS appended;
SAVEPOINT d;
SELECT allsource.es_append('oneself/a', 'x', '1') > 0 AS appended;
ROLLBACK TO d;
SELECT pg_temp.outcome(:'durable');
ROLLBACK TO c;
SELECT pg_temp.outcome(:'durable');
SELECT allsource.es_append('oneself/a', 'x', '1') > 0 AS appended;
RELEASE a;
SELECT pg_temp.outcome(:'durable');
COMMIT;
SELECT pg_temp.outcome(:'durable');
