-- es_verify on streams: heads that differ from the log, orphans, misplaced streams, event ids.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_append_many('heads/a', '{x,x,x}', '{1,2,3}',
                                event_ids => ARRAY['00000000-0000-0000-0000-000000000001', NULL, '00000000-0000-0000-0000-000000000003']::uuid[]);
SELECT allsource.es_append('heads/a', 'x', '1', tenant_id => 'tenant-1');
SELECT allsource.es_append('heads/b', 'x', '1');
SELECT name, allsource.es_partition(name) FROM unnest(ARRAY['heads/a', 'heads/b']) AS name;
SELECT stream_no AS a, (SELECT "position" - 1 FROM allsource.es_read('heads/a', 1, 1)) AS start FROM allsource.es_stream('heads/a') \gset
SELECT stream_no AS b FROM allsource.es_stream('heads/b') \gset
PREPARE faults AS
SELECT tenant_id, stream_id, kind, "position" - :start AS "position", version,
       regexp_replace(detail, 'number \d+', 'number …') AS detail
  FROM allsource.es_verify();
EXECUTE faults;

-- The head is behind, or ahead; the watermark is beyond it.
BEGIN;
UPDATE allsource.event_streams SET current_version = 2, watermark = 2 WHERE stream_no = :a;
EXECUTE faults;
SELECT count(*) FROM allsource.es_read('heads/a');
ROLLBACK;
BEGIN;
UPDATE allsource.event_streams SET current_version = 4, watermark = 4 WHERE stream_no = :a;
EXECUTE faults;
SELECT allsource.es_verify_gapless('heads/a');
ROLLBACK;
BEGIN;
UPDATE allsource.event_streams SET watermark = 4 WHERE stream_no = :a;
EXECUTE faults;
SELECT allsource.es_verify_gapless('heads/a');
ROLLBACK;
-- A watermark behind the head is none: the rest is not settled yet.
BEGIN;
UPDATE allsource.event_streams SET watermark = 2 WHERE stream_no = :a;
EXECUTE faults;
SELECT allsource.es_stream_watermark('heads/a'), allsource.es_verify_gapless('heads/a');
ROLLBACK;
-- A head without any event in the log.
BEGIN;
DELETE FROM allsource.event_log WHERE stream_no = :b;
EXECUTE faults;
SELECT allsource.es_verify_gapless('heads/b');
SELECT count(*) FROM allsource.es_read('heads/b');
ROLLBACK;

-- Runs whose stream is missing. Reading the store says so; the view, which joins, leaves them out.
BEGIN;
DELETE FROM allsource.event_streams WHERE stream_no = :b;
EXECUTE faults;
SELECT count(*) FROM allsource.es_verify(allsource.es_partition('heads/b'));
SELECT count(*) FROM allsource.es_verify(stream_id => 'heads/b');
SELECT regexp_replace(pg_temp.outcome(format('SELECT * FROM allsource.es_read_all(%s)', :start)), '(number|position) \d+', '\1 …', 'g');
SELECT count(*) FROM allsource.events WHERE "position" > :start;
ROLLBACK;

-- A stream in another leaf than its name's, and one whose number says another partition. es_read,
-- which goes by the name, does not find the first.
BEGIN;
UPDATE allsource.event_streams SET partition_id = 0 WHERE stream_no = :b;
UPDATE allsource.event_log SET partition_id = 0 WHERE stream_no = :b;
EXECUTE faults;
SELECT count(*) FROM allsource.es_read('heads/b');
ROLLBACK;
BEGIN;
UPDATE allsource.event_streams SET stream_no = 1 WHERE stream_no = :b;
UPDATE allsource.event_log SET stream_no = 1 WHERE stream_no = :b;
UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l) WHERE stream_no = 1;
EXECUTE faults;
ROLLBACK;

-- Event ids: one is missing, one is too many, one is elsewhere.
BEGIN;
DELETE FROM allsource.event_ids WHERE stream_no = :a AND version = 3;
EXECUTE faults;
ROLLBACK;
BEGIN;
INSERT INTO allsource.event_ids SELECT stream_no, 2, partition_id, '00000000-0000-0000-0000-000000000002' FROM allsource.es_stream('heads/a');
EXECUTE faults;
ROLLBACK;
BEGIN;
UPDATE allsource.event_ids SET version = 2 WHERE stream_no = :a AND version = 3;
EXECUTE faults;
SELECT count(*) FROM allsource.es_verify(stream_id => 'heads/a');
SELECT count(*) FROM allsource.es_verify(stream_id => 'heads/b');
ROLLBACK;
BEGIN;
INSERT INTO allsource.event_ids VALUES (1, 1, 0, '00000000-0000-0000-0000-000000000002');
EXECUTE faults;
ROLLBACK;

-- A retry that finds its id but not its event is an error, not a success.
BEGIN;
DELETE FROM allsource.event_log WHERE stream_no = :a;
SELECT pg_temp.outcome($$SELECT allsource.es_append('heads/a', 'x', '1', event_id => '00000000-0000-0000-0000-000000000001')$$);
ROLLBACK;

-- Faults of several streams come in the order of tenants and names.
BEGIN;
UPDATE allsource.event_streams SET watermark = 9 WHERE stream_id LIKE 'heads/%';
SELECT tenant_id, stream_id, kind FROM allsource.es_verify();
SELECT tenant_id, stream_id, kind FROM allsource.es_verify(stream_id => 'heads/a');
ROLLBACK;
EXECUTE faults;
