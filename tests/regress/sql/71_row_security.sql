-- Row-level security: functions that go below SQL would bypass it, so they refuse whom it applies to.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_append('rls/a', 'x', '1', tenant_id => 'tenant-1');
SELECT allsource.es_append('rls/a', 'x', '1', tenant_id => 'tenant-2');
BEGIN;
CREATE ROLE regress_reader IN ROLE allsource_reader;
CREATE ROLE regress_writer IN ROLE allsource_writer;
CREATE ROLE regress_bypass BYPASSRLS IN ROLE allsource_writer;
SET ROLE regress_reader;
SELECT count(*) FROM allsource.es_read('rls/a', tenant_id => 'tenant-1');
RESET ROLE;

SAVEPOINT before;
ALTER TABLE allsource.event_log ENABLE ROW LEVEL SECURITY;
SET ROLE regress_reader;
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('rls/a', tenant_id => 'tenant-1')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all()$$);
SELECT pg_temp.outcome($$SELECT allsource.es_safe_position()$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_stream('rls/a')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_stream_watermark('rls/a')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_verify_gapless('rls/a')$$);
-- Whoever would rather have an error than fewer rows gets PostgreSQL's.
SET LOCAL row_security = off;
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('rls/a', tenant_id => 'tenant-1')$$);
RESET row_security;
-- Nothing is shown until there is a policy.
SELECT count(*) FROM allsource.events;
-- It does not apply to these.
SET ROLE regress_bypass;
SELECT count(*) FROM allsource.es_read('rls/a', tenant_id => 'tenant-1');
RESET ROLE;
SELECT count(*) FROM allsource.es_read('rls/a', tenant_id => 'tenant-1');
ROLLBACK TO before;

-- A policy for tenants, as one would write it; the view obeys.
ALTER TABLE allsource.event_streams ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants ON allsource.event_streams FOR SELECT TO regress_reader, regress_writer USING (tenant_id = 'tenant-2');
SET ROLE regress_reader;
SELECT tenant_id, version FROM allsource.events WHERE stream_id = 'rls/a';
SELECT stream_id, tenant_id FROM allsource.es_streams(allsource.es_partition('rls/a')) WHERE stream_id = 'rls/a';
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('rls/a', tenant_id => 'tenant-2')$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_stream('rls/a', 'tenant-2')$$);
-- Whom it applies to may not write past it either, nor be told what it hides.
SET ROLE regress_writer;
SELECT left(pg_temp.outcome($$SELECT * FROM allsource.es_create_stream('rls/a', 'tenant-1')$$), 5);
SELECT left(pg_temp.outcome($$SELECT allsource.es_append('rls/a', 'x', '2', tenant_id => 'tenant-1')$$), 5);
SELECT left(pg_temp.outcome($$SELECT allsource.es_append_many('rls/a', '{x}', '{2}', expected_version => 7, tenant_id => 'tenant-1')$$), 5);
SELECT left(pg_temp.outcome($$SELECT * FROM allsource.es_append_batch('{rls/a}', '{x}', '{2}', tenant_id => 'tenant-1')$$), 5);
SET ROLE regress_bypass;
SELECT allsource.es_append('rls/a', 'x', '2', tenant_id => 'tenant-1');
RESET ROLE;
SELECT tenant_id, version FROM allsource.es_read('rls/a', tenant_id => 'tenant-1');
ROLLBACK;
SELECT count(*) FROM allsource.es_read('rls/a', tenant_id => 'tenant-1');
