-- What administrators do to the tables in between is noticed by sessions that know them already.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_append_many('schema/a', '{x,x,x}', '{1,2,3}', event_ids => '{00000000-0000-0000-0000-000000000001,NULL,NULL}');
SELECT allsource.es_partition('schema/a');
SELECT allsource.es_safe_position() - 3 AS start \gset

-- New files under the same names.
VACUUM FULL allsource.event_streams_p07, allsource.event_log_p07, allsource.event_ids_p07;
SELECT allsource.es_append('schema/a', 'x', '4');
CLUSTER allsource.event_log_p07 USING event_log_p07_position;
REINDEX TABLE allsource.event_streams_p07;
REINDEX INDEX allsource.event_ids_p07_event_id;
SELECT allsource.es_append('schema/a', 'x', '1', event_id => '00000000-0000-0000-0000-000000000001');
SELECT allsource.es_append('schema/a', 'x', '5', expected_version => 4);
ALTER TABLE allsource.event_streams_p07 SET (fillfactor = 90);
ALTER TABLE allsource.event_streams_p07 SET (fillfactor = 45);
VACUUM (ANALYZE, FREEZE) allsource.event_streams_p07, allsource.event_log_p07;
SELECT array_agg(version) AS versions FROM allsource.es_read('schema/a');
SELECT array_agg("position" - :start) AS positions FROM allsource.es_read_all(:start);

-- An index that stands for the store's own while this one is made anew.
BEGIN;
CREATE UNIQUE INDEX event_log_new ON allsource.event_log_p07 (stream_no, first_version) INCLUDE ("position");
ALTER TABLE allsource.event_log_p07 DROP CONSTRAINT event_log_p07_version;
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('schema/a')$$);
ALTER INDEX allsource.event_log_new RENAME TO event_log_p07_version;
SELECT count(*) FROM allsource.es_read('schema/a');
SELECT allsource.es_append('schema/a', 'x', '6');
ROLLBACK;
SELECT count(*) FROM allsource.es_read('schema/a');

-- A leaf that is not there, by its name.
BEGIN;
ALTER TABLE allsource.event_log_p07 RENAME TO event_log_away;
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('schema/a')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('schema/a', 'x', '6')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all()$$);
-- Other partitions are not concerned.
SELECT allsource.es_partition('schema/b'), allsource.es_append('schema/b', 'x', '1');
SELECT count(*) FROM allsource.es_read_all(0, NULL, '{0,1,2}') WHERE partition_id = 7;
ROLLBACK;
SELECT allsource.es_append('schema/a', 'x', '6');

-- Columns that are not those of this version.
BEGIN;
ALTER TABLE allsource.event_streams ADD COLUMN remark text;
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('schema/a')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('schema/a', 'x', '7')$$);
ROLLBACK;

-- Emptied by the owner, a leaf begins anew; positions go on.
BEGIN;
TRUNCATE allsource.event_streams_p07, allsource.event_log_p07, allsource.event_ids_p07;
SELECT count(*) FROM allsource.es_read('schema/a');
SELECT allsource.es_append('schema/a', 'x', '"new"', expected_version => 0);
SELECT version, payload, "position" - :start > 6 AS further FROM allsource.es_read('schema/a');
ROLLBACK;

SELECT array_agg(version) AS versions FROM allsource.es_read('schema/a');
SELECT * FROM allsource.es_verify();
