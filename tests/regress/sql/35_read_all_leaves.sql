-- es_read_all looks only into the leaves that may hold an event for the reader.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- How often each leaf of the log was searched in this session's recent transactions; the number
-- grows while a transaction lasts.
CREATE FUNCTION searches() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_object_agg(relname, idx_scan) FROM pg_stat_xact_user_tables
     WHERE schemaname = 'allsource' AND relname LIKE 'event\_log\_p__'
$$;
CREATE FUNCTION leaves_searched_since(earlier jsonb) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT count(*) FROM jsonb_each_text(searches()) AS now (leaf, searched)
     WHERE searched <> earlier ->> leaf
$$;

SELECT count(allsource.es_append('leaves/' || n, 'x', '{}')) FROM generate_series(1, 200) n;
SELECT allsource.es_safe_position() AS before \gset

-- Nothing new: none. One event: its own.
BEGIN;
SELECT searches() AS earlier \gset
SELECT count(*) FROM allsource.es_read_all(:before);
SELECT leaves_searched_since(:'earlier');
COMMIT;
SELECT allsource.es_append('leaves/1', 'new', '{}');
BEGIN;
SELECT searches() AS earlier \gset
SELECT event_type FROM allsource.es_read_all(:before);
SELECT leaves_searched_since(:'earlier');
COMMIT;

-- The middle of a run is found, and its end.
SELECT allsource.es_append_many('leaves/2', '{a,b,c}', '{1,2,3}');
BEGIN;
SELECT searches() AS earlier \gset
SELECT event_type FROM allsource.es_read_all(:before + 2);
SELECT leaves_searched_since(:'earlier');
SELECT event_type FROM allsource.es_read_all(:before + 3);
SELECT count(*) FROM allsource.es_read_all(:before + 4);
COMMIT;

-- What is rolled back leaves its mark: the leaf is looked into, and nothing is found.
BEGIN;
SELECT allsource.es_append('leaves/3', 'never', '{}');
ROLLBACK;
BEGIN;
SELECT searches() AS earlier \gset
SELECT event_type FROM allsource.es_read_all(:before + 4);
SELECT leaves_searched_since(:'earlier');
COMMIT;

-- Likewise a savepoint.
BEGIN;
SAVEPOINT s;
SELECT allsource.es_append('leaves/4', 'never', '{}');
ROLLBACK TO s;
SELECT allsource.es_append('leaves/1', 'newer', '{}');
COMMIT;
SELECT event_type FROM allsource.es_read_all(:before + 4);

-- A reader further behind looks further.
BEGIN;
SELECT searches() AS earlier \gset
SELECT count(*) >= 200 AS all_there FROM allsource.es_read_all(0, NULL);
SELECT leaves_searched_since(:'earlier') > 20 AS most;
COMMIT;
DROP FUNCTION leaves_searched_since, searches;
