-- es_verify, es_verify_gapless and es_run_checksum: every kind of fault in the log is made and found.
-- The owner of the tables makes them, in transactions that are rolled back.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- Runs of 2, 3 and 1 events, then one of another stream, then two more.
SELECT allsource.es_append_many('verify/a', '{x,x}', '{1,2}',
                                event_ids => ARRAY[NULL, '00000000-0000-0000-0000-000000000002']::uuid[]);
SELECT allsource.es_append_many('verify/a', '{x,y,z}', '{3,4,5}', ARRAY[NULL, '{}', NULL]::jsonb[]);
SELECT allsource.es_append('verify/a', 'x', '6', event_id => '00000000-0000-0000-0000-000000000006');
SELECT allsource.es_append('verify/b', 'x', '1');
SELECT allsource.es_append_many('verify/a', '{x,x}', '{7,8}');
SELECT count(*) FROM allsource.es_create_stream('verify/empty');
SELECT allsource.es_append('verify/a', 'x', '1', tenant_id => 'tenant-1');

-- All is well.
SELECT * FROM allsource.es_verify();
SELECT * FROM allsource.es_verify(stream_id => 'verify/a');
SELECT * FROM allsource.es_verify(allsource.es_partition('verify/a'), 'verify/a');
SELECT * FROM allsource.es_verify(stream_id => 'verify/none');
SELECT name, allsource.es_verify_gapless(name) FROM unnest(ARRAY['verify/a', 'verify/b', 'verify/empty', 'verify/none']) AS name;
SELECT allsource.es_verify_gapless('verify/a', 'tenant-1'), allsource.es_verify_gapless('verify/a', 'nobody');
SELECT count(*) FILTER (WHERE checksum = allsource.es_run_checksum(l)) = count(*) AS checksums_right FROM allsource.event_log l;

-- What is found, with positions that count from the stream's first, and without the values of checksums.
SELECT stream_no AS a, (SELECT "position" - 1 FROM allsource.es_read('verify/a', 1, 1)) AS start FROM allsource.es_stream('verify/a') \gset
SELECT stream_no AS b FROM allsource.es_stream('verify/b') \gset
PREPARE faults AS
SELECT tenant_id, stream_id, kind, "position" - :start AS "position", version,
       CASE WHEN kind LIKE 'position%' THEN regexp_replace(detail, '\d+$', (substring(detail FROM '\d+$')::bigint - :start)::text)
            WHEN detail LIKE 'stored%' THEN regexp_replace(detail, '-?\d+', '…', 'g')
            ELSE detail END AS detail
  FROM allsource.es_verify();
CREATE FUNCTION pg_temp.gapless() RETURNS bool LANGUAGE sql RETURN allsource.es_verify_gapless('verify/a');

-- An error, without the facts that differ from run to run.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE sql
    RETURN regexp_replace(pg_temp.outcome(statement), '\n  DETAIL.*', '');

-- A gap: in the middle, at the beginning, at the end.
BEGIN;
DELETE FROM allsource.event_log WHERE stream_no = :a AND first_version = 3;
EXECUTE faults;
SELECT pg_temp.gapless();
DELETE FROM allsource.event_log WHERE stream_no = :a AND first_version < 6;
SELECT kind, version, detail FROM allsource.es_verify(stream_id => 'verify/a') WHERE kind <> 'event id';
SELECT pg_temp.gapless();
ROLLBACK;
BEGIN;
DELETE FROM allsource.event_log WHERE stream_no = :a AND first_version = 7;
EXECUTE faults;
SELECT pg_temp.gapless();
-- Reading what is left ends where it ends.
SELECT max(version) FROM allsource.es_read('verify/a');
ROLLBACK;

-- An overlap. Versions are part of the checksum.
BEGIN;
UPDATE allsource.event_log l SET first_version = 5 WHERE stream_no = :a AND first_version = 6;
SELECT kind, version FROM allsource.es_verify(stream_id => 'verify/a');
UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l) WHERE stream_no = :a AND first_version = 5;
EXECUTE faults;
SELECT pg_temp.gapless();
ROLLBACK;

-- Positions that do not agree with versions.
BEGIN;
UPDATE allsource.event_log SET "position" = "position" + 1000 WHERE stream_no = :a AND first_version = 3;
UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l) WHERE stream_no = :a;
EXECUTE faults;
SELECT pg_temp.gapless();
ROLLBACK;

-- A position that two streams have.
BEGIN;
UPDATE allsource.event_log SET "position" = "position" - 2 WHERE stream_no = :b;
UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l) WHERE stream_no = :b;
EXECUTE faults;
ROLLBACK;

-- Content that was changed: each column counts.
BEGIN;
UPDATE allsource.event_log SET payloads[2] = '40' WHERE stream_no = :a AND first_version = 3;
EXECUTE faults;
SELECT count(*) FROM allsource.es_verify(allsource.es_partition('verify/a'));
SELECT count(*) FROM allsource.es_verify((allsource.es_partition('verify/a') + 1) % 32);
ROLLBACK;

-- Columns that do not belong together. Reading such a run is refused.
BEGIN;
UPDATE allsource.event_log SET payloads = payloads[1:2] WHERE stream_no = :a AND first_version = 3;
UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l) WHERE stream_no = :a;
EXECUTE faults;
SELECT count(*) FROM allsource.es_read('verify/a', 1, 2);
SELECT pg_temp.refusal($$SELECT * FROM allsource.es_read('verify/a', 1, 3)$$);
SELECT pg_temp.refusal(format('SELECT * FROM allsource.es_read_all(%s)', :start));
ROLLBACK;
BEGIN;
UPDATE allsource.event_log SET timestamps = ARRAY["timestamp", "timestamp"] WHERE stream_no = :a AND first_version = 3;
UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l) WHERE stream_no = :a;
EXECUTE faults;
SELECT pg_temp.refusal($$SELECT * FROM allsource.es_read('verify/a', 1, 3)$$);
UPDATE allsource.event_log SET timestamps = ARRAY["timestamp", NULL, "timestamp"] WHERE stream_no = :a AND first_version = 3;
EXECUTE faults;
ROLLBACK;
BEGIN;
UPDATE allsource.event_log SET event_types = '{}', payloads = '{}', metadata = NULL WHERE stream_no = :a AND first_version = 3;
UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l) WHERE stream_no = :a;
EXECUTE faults;
ROLLBACK;
BEGIN;
UPDATE allsource.event_log SET event_types[2] = NULL WHERE stream_no = :a AND first_version = 3;
EXECUTE faults;
SELECT pg_temp.refusal($$SELECT * FROM allsource.es_read('verify/a')$$);
SELECT count(*) FROM allsource.es_read('verify/a', 6);
ROLLBACK;

-- What the checksum covers.
CREATE FUNCTION pg_temp.changed(run allsource.event_log, assignment text) RETURNS bool
LANGUAGE plpgsql AS $$
DECLARE
    r allsource.event_log := run;
BEGIN
    EXECUTE format('SELECT (p).* FROM (SELECT jsonb_populate_record($1, to_jsonb($1) || %s)) AS t (p)', assignment) INTO r USING run;
    RETURN allsource.es_run_checksum(r) <> run.checksum;
END
$$;
SELECT assignment, pg_temp.changed(l, format('jsonb %L', assignment)) AS noticed
  FROM allsource.event_log l,
       unnest(ARRAY['{}', '{"checksum": 1}', '{"partition_id": 1}', '{"stream_no": 1}', '{"first_version": 4}', '{"position": 1}',
                    '{"timestamp": "2000-01-01"}', '{"event_types": ["x", "y", "x"]}', '{"payloads": [3, 4.0, 5]}',
                    '{"metadata": null}', '{"event_ids": [null, null, "00000000-0000-0000-0000-000000000002"]}',
                    '{"timestamps": null}', '{"timestamps": ["2000-01-01", "2000-01-02", "2000-01-03"]}']) AS assignment
 WHERE l.stream_no = :a AND l.first_version = 3;
SELECT allsource.es_run_checksum(NULL) IS NULL AS of_nothing,
       allsource.es_run_checksum(ROW(1, 1, 1, NULL, 1, 1, '{x}', '{1}', NULL, NULL, NULL)::allsource.event_log) IS NULL AS of_what_cannot_be;
