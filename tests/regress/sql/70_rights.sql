-- Who may do what.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_append('rights/a', 'x', '1', event_id => '00000000-0000-0000-0000-000000000001');
-- Roles belong to the server, so all of this is rolled back.
BEGIN;
CREATE ROLE regress_plain;
CREATE ROLE regress_reader IN ROLE allsource_reader;
CREATE ROLE regress_writer IN ROLE allsource_writer;
CREATE ROLE regress_admin IN ROLE allsource_admin;

-- The roles: no login, no powers, each with those below it.
SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolinherit,
       ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid AND roleid::regrole::text LIKE 'allsource%') AS includes
  FROM pg_roles r WHERE rolname LIKE 'allsource%' ORDER BY 1;

-- Every call, as a role of each kind: "yes", or the SQLSTATE.
CREATE FUNCTION pg_temp.outcome_as(role name, call text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    outcome := pg_temp.outcome(call);
    RESET ROLE;
    RETURN outcome;
END
$$;
CREATE FUNCTION pg_temp.answer(role name, call text) RETURNS text
LANGUAGE sql RETURN (SELECT CASE o WHEN 'no error' THEN 'yes' ELSE left(o, 5) END FROM pg_temp.outcome_as(role, call) AS o);
CREATE TEMPORARY TABLE calls (n serial, call text);
INSERT INTO calls (call) VALUES
    ($$SELECT allsource.es_partition('rights/a')$$),
    ($$SELECT allsource.es_any(), allsource.es_no_stream(), allsource.es_stream_exists()$$),
    ($$SELECT * FROM allsource.es_read('rights/a')$$),
    ($$SELECT * FROM allsource.es_read_all()$$),
    ($$SELECT allsource.es_safe_position()$$),
    ($$SELECT * FROM allsource.es_stream('rights/a')$$),
    ($$SELECT allsource.es_stream_watermark('rights/a')$$),
    ($$SELECT * FROM allsource.es_streams(0)$$),
    ($$SELECT * FROM allsource.es_partition_stats()$$),
    ($$SELECT allsource.es_verify_gapless('rights/a')$$),
    ($$SELECT * FROM allsource.es_verify(0)$$),
    ($$SELECT allsource.es_run_checksum(NULL)$$),
    ($$SELECT count(*) FROM allsource.events$$),
    ($$SELECT count(*) FROM allsource.partition_stats$$),
    ($$SELECT count(*) FROM allsource.event_streams$$),
    ($$SELECT count(*) FROM allsource.event_log$$),
    ($$SELECT count(*) FROM allsource.event_ids$$),
    ($$SELECT allsource.es_append('rights/a', 'x', '2')$$),
    ($$SELECT allsource.es_append('rights/a', 'x', '1', event_id => '00000000-0000-0000-0000-000000000001')$$),
    ($$SELECT allsource.es_append_many('rights/a', '{x}', '{2}')$$),
    ($$SELECT * FROM allsource.es_append_batch('{rights/a}', '{x}', '{2}')$$),
    ($$SELECT * FROM allsource.es_create_stream('rights/new')$$),
    ($$SELECT * FROM allsource.es_create_stream('rights/a')$$),
    ($$INSERT INTO allsource.event_ids VALUES (1, 1, 0, '00000000-0000-0000-0000-000000000001')$$),
    ($$UPDATE allsource.event_streams SET current_version = 9$$),
    ($$SELECT 1 FROM allsource.event_streams FOR UPDATE$$),
    ($$DELETE FROM allsource.event_log$$),
    ($$DELETE FROM allsource.event_log_p00$$),
    ($$TRUNCATE allsource.event_ids$$),
    ($$LOCK TABLE allsource.event_log IN ACCESS EXCLUSIVE MODE$$),
    ($$SELECT setval('allsource.position_seq', 1)$$),
    ($$SELECT nextval('allsource.stream_no_seq')$$),
    ($$SELECT last_value FROM allsource.position_seq$$),
    ($$CREATE TABLE allsource.mine ()$$),
    ($$CREATE FUNCTION allsource.es_mine() RETURNS int LANGUAGE sql RETURN 1$$),
    ($$ALTER TABLE allsource.event_log DISABLE TRIGGER ALL$$),
    ($$DROP FUNCTION allsource.es_append$$);
SAVEPOINT before;
SELECT call, pg_temp.answer('regress_plain', call) AS plain, pg_temp.answer('regress_reader', call) AS reader,
       pg_temp.answer('regress_writer', call) AS writer, pg_temp.answer('regress_admin', call) AS admin
  FROM calls ORDER BY n;
ROLLBACK TO before;

-- The right to call the functions is not enough: they look at the tables' rights, or at the role, themselves.
CREATE ROLE regress_caller;
GRANT USAGE ON SCHEMA allsource TO regress_caller;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA allsource TO regress_caller;
\pset format unaligned
\pset tuples_only
SELECT call || E'\n' || pg_temp.outcome_as('regress_caller', call) FROM calls WHERE call LIKE '%allsource.es\_%' AND n <= 23 ORDER BY n;
\pset tuples_only
\pset format aligned
-- Both tables are needed to read.
GRANT SELECT ON allsource.event_streams TO regress_caller;
SET ROLE regress_caller;
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read('rights/a')$$);
RESET ROLE;
GRANT SELECT ON allsource.event_log TO regress_caller;
SET ROLE regress_caller;
SELECT count(*) FROM allsource.es_read('rights/a');
SELECT pg_temp.outcome($$SELECT allsource.es_append('rights/a', 'x', '2')$$);
RESET ROLE;

-- A member that does not inherit has to take the role on.
CREATE ROLE regress_noinherit NOINHERIT IN ROLE allsource_writer;
GRANT USAGE ON SCHEMA allsource TO regress_noinherit;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA allsource TO regress_noinherit;
SET ROLE regress_noinherit;
SELECT pg_temp.outcome($$SELECT allsource.es_append('rights/a', 'x', '2')$$);
SET ROLE allsource_writer;
SELECT allsource.es_append('rights/a', 'x', '2');
RESET ROLE;

-- A SECURITY DEFINER function of a writer lends its rights, and no more than those.
SET ROLE regress_writer;
CREATE FUNCTION pg_temp.place_order(name text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN allsource.es_append(name, 'placed', '{}');
RESET ROLE;
SET ROLE regress_plain;
SELECT pg_temp.place_order('rights/a');
SELECT pg_temp.outcome($$SELECT allsource.es_append('rights/a', 'x', '2')$$);
RESET ROLE;

-- Views show what the caller may see, not what their owner may.
GRANT USAGE ON SCHEMA allsource TO regress_plain;
GRANT SELECT ON allsource.events, allsource.partition_stats TO regress_plain;
SET ROLE regress_plain;
SELECT pg_temp.outcome('SELECT * FROM allsource.events');
SELECT pg_temp.outcome('SELECT * FROM allsource.partition_stats');
RESET ROLE;

ROLLBACK;
