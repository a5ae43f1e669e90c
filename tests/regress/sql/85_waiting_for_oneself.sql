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

-- An index that was made in this transaction; other partitions are not concerned.
BEGIN;
CREATE INDEX ON allsource.:"leaf" ("timestamp");
SELECT replace(pg_temp.outcome(:'durable'), :'leaf', 'the leaf');
SELECT replace(pg_temp.outcome(:'flush'), :'leaf', 'the leaf');
SELECT allsource.es_enqueue('oneself/' || :b, 'x', '1', durable => true);
ROLLBACK;

-- Locks that conflict with writing, and one that does not.
BEGIN;
LOCK TABLE allsource.event_streams IN SHARE MODE;
SELECT regexp_replace(pg_temp.outcome(:'durable'), '_p\d\d', '_pNN');
SAVEPOINT a;
LOCK TABLE allsource.waiting_events IN EXCLUSIVE MODE;
SELECT pg_temp.outcome(:'flush');
ROLLBACK TO a;
SELECT regexp_replace(pg_temp.outcome(:'flush'), '_p\d\d', '_pNN');
ROLLBACK;
BEGIN;
ALTER SEQUENCE allsource.position_seq RESTART 1000000000;
SELECT pg_temp.outcome(:'durable');
ROLLBACK;
BEGIN;
LOCK TABLE allsource.event_streams, allsource.event_log, allsource.event_ids, allsource.waiting_events IN ROW EXCLUSIVE MODE;
SELECT pg_temp.outcome(:'durable');
SELECT pg_temp.outcome(:'flush');
ROLLBACK;

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
