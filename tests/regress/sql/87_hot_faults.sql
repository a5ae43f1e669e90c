-- Hot partitions: who may do what, what cannot be settled, and batches that are damaged.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
\pset footer off
ALTER SYSTEM SET allsource.settle_interval = '1 h';
SELECT pg_reload_conf();
SELECT allsource.es_partition('hot/a') AS p, to_char(allsource.es_partition('hot/a'), 'FM00') AS pp \gset

-- Settles, or says what it has waited for. A cancel is no error that OTHERS would catch.
CREATE FUNCTION pg_temp.settle(p int) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM allsource.es_settle(p, timeout => '1 s');
    RETURN 'settled';
EXCEPTION WHEN query_canceled THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || SQLERRM || E'\n  DETAIL: ' || detail;
END
$$;

-- Rights.
BEGIN;
CREATE ROLE regress_plain;
CREATE ROLE regress_reader IN ROLE allsource_reader;
CREATE ROLE regress_writer IN ROLE allsource_writer;
CREATE ROLE regress_admin IN ROLE allsource_admin;
CREATE ROLE regress_caller;
GRANT USAGE ON SCHEMA allsource TO regress_caller;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA allsource TO regress_caller;
CREATE FUNCTION pg_temp.answer(role name, call text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    outcome := pg_temp.outcome(call);
    RESET ROLE;
    RETURN CASE outcome WHEN 'no error' THEN 'yes' ELSE left(outcome, 5) END;
END
$$;
CREATE TEMPORARY TABLE calls (n serial, call text);
INSERT INTO calls (call) VALUES
    ($$SELECT allsource.es_heat(6)$$),
    ($$SELECT allsource.es_settle(6)$$),
    ($$SELECT allsource.es_sidecar_rebuild()$$),
    ($$SELECT allsource.es_cool(6)$$),
    ($$SELECT allsource.es_sidecar_checkpoint('/tmp')$$),
    ($$SELECT * FROM allsource.es_hot_partitions()$$),
    ($$SELECT * FROM allsource.hot_partitions_status$$),
    ($$SELECT * FROM allsource.es_sidecar_stats()$$),
    ($$SELECT * FROM allsource.partition_stats$$),
    ($$SELECT * FROM allsource.hot_partitions$$),
    ($$SELECT * FROM allsource.hot_batches$$),
    ($$SELECT * FROM allsource.hot_batches_p06$$),
    ($$INSERT INTO allsource.hot_partitions VALUES (8, 'hot', now(), 0, 0, false)$$),
    ($$UPDATE allsource.hot_partitions SET state = 'cold'$$),
    ($$DELETE FROM allsource.hot_batches$$),
    ($$TRUNCATE allsource.hot_batches$$);
SELECT call, pg_temp.answer('regress_plain', call) AS plain, pg_temp.answer('regress_reader', call) AS reader,
       pg_temp.answer('regress_writer', call) AS writer, pg_temp.answer('regress_admin', call) AS admin,
       pg_temp.answer('regress_caller', call) AS caller
  FROM calls ORDER BY n;
SET ROLE regress_caller;
SELECT pg_temp.outcome($$SELECT allsource.es_heat(6)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_settle(6)$$);
RESET ROLE;
SET ROLE regress_admin;
SELECT pg_temp.outcome($$SELECT allsource.es_sidecar_checkpoint('/tmp')$$);
RESET ROLE;
-- For those who may call them, they are undone by no rollback.
ROLLBACK;
SELECT partition_id, state FROM allsource.hot_partitions_status WHERE partition_id = 6;
-- What the table refuses.
SELECT left(pg_temp.outcome($$INSERT INTO allsource.hot_partitions VALUES (32, 'hot', now(), 0, 0, false)$$), 5) AS partition,
       left(pg_temp.outcome($$INSERT INTO allsource.hot_partitions VALUES (8, 'warm', now(), 0, 0, false)$$), 5) AS state;

-- A stream whose events are refused stays; the others are settled, and it follows when the cause is gone.
SELECT allsource.es_heat(:p);
ALTER TABLE allsource.event_log_p:pp ADD CONSTRAINT no_bad CHECK (event_types[1] <> 'bad');
SELECT 'hot/bad' || n AS bad FROM generate_series(1, 1000) n WHERE allsource.es_partition('hot/bad' || n) = :p ORDER BY n LIMIT 1 \gset
SELECT allsource.es_enqueue_batch(ARRAY['hot/a', :'bad', :'bad'], '{good,bad,good}', '{1,2,3}', durable => true);
SELECT split_part(replace(pg_temp.settle(:p), :'bad', '…'), ': Failing', 1);
SELECT event_type, position IS NULL AS is_unsettled FROM allsource.es_read('hot/a', max_count => 1, backward => true);
SELECT version, event_type, position IS NULL AS is_unsettled FROM allsource.es_read(:'bad');
SELECT events, split_part(replace(last_error, :'bad', '…'), ': Failing', 1) AS last_error FROM allsource.hot_partitions_status WHERE partition_id = :p;
SELECT detail ~ 'cannot be settled: .* violates check constraint "no_bad"' AS says_why FROM allsource.es_health() WHERE name = 'unsettled events';
SELECT left(pg_temp.outcome(format($$SELECT allsource.es_append(%L, 'good', '4')$$, :'bad')), 5) AS append;
SELECT count(*) FROM allsource.dead_letters WHERE stream_id = :'bad';
SELECT * FROM allsource.es_verify(:p);
ALTER TABLE allsource.event_log_p:pp DROP CONSTRAINT no_bad;
SELECT allsource.es_settle(:p);
SELECT version, event_type, position IS NULL AS is_unsettled FROM allsource.es_read(:'bad');
SELECT batches, events, last_error FROM allsource.hot_partitions_status WHERE partition_id = :p;

-- A stream that is locked.
SELECT allsource.es_enqueue('hot/a', 'x', '2', durable => true);
BEGIN;
SELECT count(*) FROM (SELECT FROM allsource.event_streams WHERE stream_id = 'hot/a' FOR UPDATE) AS locked;
SELECT regexp_replace(pg_temp.settle(:p), 'process \d+', 'process …');
COMMIT;
SELECT allsource.es_settle(:p);

-- Damage: a batch that the sidecar does not have is reported, and stops what needs it.
SELECT allsource.es_enqueue('hot/a', 'x', '3', durable => true);
SELECT batch_no AS batch FROM allsource.hot_batches WHERE partition_id = :p \gset
-- It is old, if nothing settles it.
BEGIN;
UPDATE allsource.hot_batches SET written_at = written_at - interval '7 hours' WHERE partition_id = :p;
SELECT ok, regexp_replace(detail, '252\d\d\.\d s', '… s') AS detail FROM allsource.es_health() WHERE name = 'unsettled events';
SELECT trunc(value / 100) FROM allsource.metrics WHERE name = 'allsource_hot_oldest_unsettled_seconds';
ROLLBACK;
CREATE FUNCTION pg_temp.masked(text, batch text) RETURNS text LANGUAGE sql RETURN replace($1, 'batch ' || batch, 'batch …');
BEGIN;
UPDATE allsource.hot_batches SET events = events + 1 WHERE partition_id = :p;
SELECT kind, stream_id, pg_temp.masked(detail, :'batch') FROM allsource.es_verify(:p);
ROLLBACK;
BEGIN;
UPDATE allsource.hot_batches SET batch_no = batch_no + 1 WHERE partition_id = :p;
SELECT kind, stream_id, pg_temp.masked(detail, (:batch + 1)::text) FROM allsource.es_verify(:p);
ROLLBACK;
CREATE TEMPORARY TABLE intact AS SELECT * FROM allsource.hot_batches WHERE partition_id = :p;
UPDATE allsource.hot_batches SET body = set_byte(body, length(body) - 1, get_byte(body, length(body) - 1) # 1) WHERE partition_id = :p;
SELECT allsource.es_sidecar_rebuild();
SELECT kind, stream_id, pg_temp.masked(detail, :'batch') FROM allsource.es_verify(:p);
SELECT count(*) FROM allsource.es_verify(:p, 'hot/a');
SELECT pg_temp.masked(pg_temp.outcome($$SELECT * FROM allsource.es_read('hot/a')$$), :'batch');
SELECT pg_temp.masked(pg_temp.outcome($$SELECT * FROM allsource.es_stream('hot/a')$$), :'batch');
SELECT pg_temp.masked(pg_temp.outcome($$SELECT allsource.es_append('hot/a', 'x', '4')$$), :'batch');
SELECT pg_temp.masked(pg_temp.settle(:p), :'batch');
SELECT pg_temp.masked(last_error, :'batch') AS last_error FROM allsource.hot_partitions_status WHERE partition_id = :p;
-- What is settled can be read.
SELECT count(*) > 0 AS found FROM allsource.events WHERE stream_id = 'hot/a';
UPDATE allsource.hot_batches h SET body = i.body FROM intact i WHERE h.partition_id = :p AND h.batch_no = i.batch_no;
SELECT allsource.es_settle(:p);
SELECT event_type, payload, position IS NULL AS is_unsettled FROM allsource.es_read('hot/a', max_count => 1, backward => true);

-- A batch's list of streams. One that is damaged is noticed by who reads it; one that is not that of the events, by es_verify:
-- the settler leaves a stream that is locked, and the lists of the batch before and after that are put beside the other body.
SELECT allsource.es_enqueue_batch(ARRAY['hot/a', :'bad'], '{x,x}', '{5,6}'::jsonb[], durable => true);
SELECT batch_no AS batch FROM allsource.hot_batches WHERE partition_id = :p \gset
BEGIN;
CREATE TEMPORARY TABLE whole ON COMMIT DROP AS SELECT * FROM allsource.hot_batches WHERE partition_id = :p;
SELECT events, length(streams) FROM whole;
SELECT count(*) FROM (SELECT FROM allsource.event_streams WHERE stream_id = 'hot/a' FOR UPDATE) AS locked;
SELECT left(pg_temp.settle(:p), 5);
SELECT events, length(streams) FROM allsource.hot_batches WHERE partition_id = :p;
SELECT * FROM allsource.es_verify(:p);
SAVEPOINT intact;
UPDATE allsource.hot_batches h SET streams = w.streams FROM whole w WHERE h.partition_id = :p;
SELECT kind, stream_id, pg_temp.masked(detail, :'batch') FROM allsource.es_verify(:p);
ROLLBACK TO intact;
UPDATE allsource.hot_batches h SET body = w.body, checksum = w.checksum, events = w.events FROM whole w WHERE h.partition_id = :p;
SELECT kind, stream_id, pg_temp.masked(detail, :'batch') FROM allsource.es_verify(:p);
ROLLBACK TO intact;
UPDATE allsource.hot_batches SET streams = set_byte(streams, 4, get_byte(streams, 4) # 1) WHERE partition_id = :p;
SELECT kind, stream_id, pg_temp.masked(detail, :'batch') FROM allsource.es_verify(:p);
SELECT count(*) FROM allsource.es_verify(:p, 'hot/a');
SELECT pg_temp.masked(pg_temp.outcome($$SELECT * FROM allsource.es_read('hot/a')$$), :'batch');
SELECT pg_temp.masked(pg_temp.outcome($$SELECT allsource.es_append('hot/a', 'x', '7')$$), :'batch');
ROLLBACK TO intact;
UPDATE allsource.hot_batches SET streams = '' WHERE partition_id = :p;
SELECT kind, stream_id, pg_temp.masked(detail, :'batch') FROM allsource.es_verify(:p);
ROLLBACK TO intact;
COMMIT;
SELECT allsource.es_settle(:p);
SELECT payload FROM allsource.es_read('hot/a', max_count => 1, backward => true);
SELECT allsource.es_cool(:p);
SELECT * FROM allsource.es_verify(:p);
SELECT partition_id, state, events, last_error FROM allsource.hot_partitions_status WHERE state <> 'cold';
ALTER SYSTEM RESET allsource.settle_interval;
SELECT pg_reload_conf();
