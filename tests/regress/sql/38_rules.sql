-- Rules that rewrite an INSERT or UPDATE: there is no statement, so they are refused.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_append('rules/a', 'x', '1');
SELECT 'event_log_p' || to_char(allsource.es_partition('rules/a'), 'FM00') AS leaf \gset
\set append 'SELECT allsource.es_append(''rules/a'', ''x'', ''2'')'
BEGIN;
CREATE TABLE copies (stream_no bigint);
CREATE RULE copy AS ON INSERT TO allsource.event_log DO ALSO INSERT INTO copies VALUES (NEW.stream_no);
SELECT pg_temp.outcome(:'append');
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('rules/b', '{x}', '{1}')$$);
ALTER TABLE allsource.event_log DISABLE RULE copy;
SELECT pg_temp.outcome(:'append');
DROP RULE copy ON allsource.event_log;
CREATE RULE copy AS ON INSERT TO allsource.:"leaf" DO ALSO INSERT INTO copies VALUES (NEW.stream_no);
SELECT replace(pg_temp.outcome(:'append'), :'leaf', 'the leaf');
DROP RULE copy ON allsource.:"leaf";
CREATE RULE copy AS ON UPDATE TO allsource.event_streams DO ALSO INSERT INTO copies VALUES (NEW.stream_no);
SELECT pg_temp.outcome(:'append');
DROP RULE copy ON allsource.event_streams;
-- The store updates and deletes nothing there.
CREATE RULE copy AS ON UPDATE TO allsource.event_log DO ALSO INSERT INTO copies VALUES (NEW.stream_no);
CREATE RULE kept AS ON DELETE TO allsource.event_streams DO INSTEAD NOTHING;
SELECT pg_temp.outcome(:'append');
SELECT count(*) FROM copies;
ROLLBACK;
SELECT pg_temp.outcome(:'append');
