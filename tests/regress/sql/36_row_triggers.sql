-- A BEFORE trigger that gives back a row equal to the one it was given, and an AFTER trigger with a condition on it.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

BEGIN;
CREATE TEMP TABLE seen (leaf text, op text, name text, bytes int);
CREATE FUNCTION pg_temp.assign() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.partition_id := NEW.partition_id; RETURN NEW; END';
CREATE FUNCTION pg_temp.note_run() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO seen VALUES (TG_TABLE_NAME, TG_OP, NEW.event_types[1], length(NEW.payloads[1] ->> ''pad'')); RETURN NULL; END';
CREATE FUNCTION pg_temp.note_head() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO seen VALUES (TG_TABLE_NAME, TG_OP, NEW.stream_id, NEW.current_version); RETURN NULL; END';
CREATE TRIGGER a BEFORE INSERT ON allsource.event_log_p01
    FOR EACH ROW EXECUTE FUNCTION pg_temp.assign();
CREATE TRIGGER b AFTER INSERT ON allsource.event_log_p01
    FOR EACH ROW WHEN (NEW.payloads[1] ->> 'pad' > 'a' AND NEW.event_types[1] = 'kept') EXECUTE FUNCTION pg_temp.note_run();
CREATE TRIGGER a BEFORE INSERT OR UPDATE ON allsource.event_streams_p01
    FOR EACH ROW EXECUTE FUNCTION pg_temp.assign();
CREATE TRIGGER b AFTER INSERT OR UPDATE ON allsource.event_streams_p01
    FOR EACH ROW WHEN (NEW.entity_id = repeat('e', 200) AND NEW.stream_id LIKE 'row-trigger-%') EXECUTE FUNCTION pg_temp.note_head();
-- Moves each head, so that its index entries are made again.
CREATE INDEX moves ON allsource.event_streams_p01 (current_version, upper(stream_id));
CREATE INDEX computes ON allsource.event_log_p01 (upper(event_types[1] || (payloads[1] ->> 'pad')))
    WHERE length(payloads[1] ->> 'pad') < 100;

SELECT 'row-trigger-' || min(i) AS stream FROM generate_series(1, 1000) i WHERE allsource.es_partition('row-trigger-' || i) = 1 \gset
SELECT count(allsource.es_append(:'stream', 'kept', jsonb_build_object('pad', repeat('p', n)), entity_id => repeat('e', 200)))
  FROM unnest('{10,3000,9000,50000,200000,1000000}'::int[]) n;
SELECT allsource.es_append_many(:'stream', array_agg('kept'::text), array_agg(jsonb_build_object('pad', repeat('q', 500)))) FROM generate_series(1, 100);
SELECT current_version FROM allsource.es_create_stream(:'stream' || '/' || (
    SELECT min(i) FROM generate_series(1, 1000) i WHERE allsource.es_partition(:'stream' || '/' || i) = 1), entity_id => repeat('e', 200));
SELECT leaf, op, count(*), count(DISTINCT name), min(bytes), max(bytes) FROM seen GROUP BY leaf, op ORDER BY leaf, op;
SELECT count(*), max(version) FROM allsource.es_read(:'stream');
SELECT * FROM allsource.es_verify(1);

-- A trigger that updates the row that it fires for, while it is being updated.
CREATE FUNCTION pg_temp.touch() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN UPDATE allsource.event_streams SET updated_at = now() WHERE stream_no = NEW.stream_no; RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON allsource.event_streams_p01
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION pg_temp.touch();
SELECT pg_temp.outcome(format('SELECT allsource.es_append(%L, ''x'', ''1'')', :'stream'));
SELECT pg_temp.outcome(format('UPDATE allsource.event_streams SET watermark = watermark WHERE stream_id = %L', :'stream'));
ROLLBACK;
