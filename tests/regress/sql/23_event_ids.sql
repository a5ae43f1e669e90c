-- Event ids make a retry safe: the same append again returns the first result and writes nothing.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
-- Short ids for this file.
CREATE FUNCTION pg_temp.id(n int) RETURNS uuid LANGUAGE sql RETURN lpad(n::text, 32, '0')::uuid;
CREATE FUNCTION pg_temp.ids(VARIADIC n int[]) RETURNS uuid[]
LANGUAGE sql RETURN (SELECT array_agg(pg_temp.id(u) ORDER BY o) FROM unnest(n) WITH ORDINALITY AS t (u, o));

SELECT allsource.es_append('ids/a', 'x', '{"n": 1, "m": 0}', event_id => pg_temp.id(1));
SELECT allsource.es_append_many('ids/a', '{x,y}', '{2,3}', event_ids => pg_temp.ids(2, 3));
SELECT allsource.es_append('ids/a', 'x', '4');
SELECT allsource.es_append_many('ids/a', '{x,y,z}', '{5,6,7}', event_ids => ARRAY[NULL, pg_temp.id(6), NULL]);

SELECT pg_temp.stored() AS before \gset

-- Retries, wherever the stream is by now. As jsonb has no order of keys, neither has a payload.
SELECT allsource.es_append('ids/a', 'x', '{"m":0,"n":1}', event_id => pg_temp.id(1));
SELECT allsource.es_append_many('ids/a', '{x,y}', '{2,3}', event_ids => pg_temp.ids(2, 3));
-- With the same expected version as the first time.
SELECT allsource.es_append('ids/a', 'x', '{"n": 1, "m": 0}', expected_version => 0, event_id => pg_temp.id(1));
SELECT allsource.es_append_many('ids/a', '{x,y}', '{2,3}', expected_version => 1, event_ids => pg_temp.ids(2, 3));
SELECT allsource.es_append('ids/a', 'x', '{"n": 1, "m": 0}', expected_version => -1, event_id => pg_temp.id(1));
-- Metadata does not count: it often holds the time of the attempt.
SELECT allsource.es_append('ids/a', 'x', '{"n": 1, "m": 0}', '{"attempt": 2}', event_id => pg_temp.id(1));
-- A part of an earlier call, or events of two calls that stand side by side, are a retry as well.
SELECT allsource.es_append('ids/a', 'y', '3', event_id => pg_temp.id(3));
SELECT allsource.es_append_many('ids/a', '{x,x,y}', ARRAY['{"n": 1, "m": 0}', '2', '3']::jsonb[], event_ids => pg_temp.ids(1, 2, 3));
-- In a batch, with the first position.
SELECT stream_id, first_version, last_version,
       first_position = (SELECT "position" FROM allsource.es_read('ids/a', 2, 1)) AS at_the_first_place
  FROM allsource.es_append_batch('{ids/a,ids/a}', '{x,y}', '{2,3}', event_ids => pg_temp.ids(2, 3));
SELECT pg_temp.stored() = :'before' AS nothing_written;

-- In a batch each stream stands for itself: one is written, the other was before.
SELECT stream_id, first_version, last_version
  FROM allsource.es_append_batch('{ids/b,ids/a,ids/b}', '{x,x,x}', '{1,2,2}',
                                 event_ids => pg_temp.ids(10, 2, 11));

-- Ids are a stream's own: the same one elsewhere is another event.
SELECT allsource.es_append('ids/c', 'x', '{"n": 1}', event_id => pg_temp.id(1));
SELECT allsource.es_append('ids/a', 'x', '{"n": 1}', event_id => pg_temp.id(1), tenant_id => 'tenant-1');

-- Everything else is refused, and writes nothing.
\pset format unaligned
\pset tuples_only
SELECT pg_temp.stored() AS before \gset
-- Another type; another payload, be it by a zero behind the point, which jsonb keeps.
SELECT pg_temp.outcome($$SELECT allsource.es_append('ids/a', 'y', '{"n": 1, "m": 0}', event_id => pg_temp.id(1))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('ids/a', 'x', '{"n": 2, "m": 0}', event_id => pg_temp.id(1))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('ids/a', 'x', '{"n": 1.0, "m": 0}', event_id => pg_temp.id(1))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/a', '{x,y}', '{2,4}', event_ids => pg_temp.ids(2, 3))$$);
-- Only some of the ids are there.
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/a', '{x,y}', '{2,3}', event_ids => pg_temp.ids(2, 4))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/a', '{x,y}', '{1,2}', event_ids => pg_temp.ids(4, 2))$$);
-- Some events of the call have none.
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/a', '{x,y,z}', '{5,6,7}', event_ids => ARRAY[NULL, pg_temp.id(6), NULL])$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/a', '{y,z}', '{6,7}', event_ids => ARRAY[pg_temp.id(6), NULL])$$);
-- Another order; events between.
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/a', '{y,x}', '{3,2}', event_ids => pg_temp.ids(3, 2))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/a', '{y,y}', '{3,6}', event_ids => pg_temp.ids(3, 6))$$);
-- The same id twice in a call, for a stream that is there and for one that is not.
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/a', '{x,x}', '{1,1}', event_ids => pg_temp.ids(20, 20))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('ids/new', '{x,x}', '{1,1}', event_ids => pg_temp.ids(20, 20))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{ids/new,ids/b,ids/new}', '{x,x,x}', '{1,1,1}', event_ids => pg_temp.ids(20, 21, 20))$$);
-- At another place than the writer says: where the stream is now, an id is used again; anywhere
-- else the writer is behind, whatever the ids are.
SELECT pg_temp.outcome($$SELECT allsource.es_append('ids/a', 'x', '{"n": 1, "m": 0}', expected_version => 7, event_id => pg_temp.id(1))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('ids/a', 'x', '{"n": 1, "m": 0}', expected_version => 2, event_id => pg_temp.id(1))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('ids/a', 'x', '{"n": 1, "m": 0}', expected_version => 0, event_id => pg_temp.id(30))$$);
-- One stream of a batch.
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{ids/new,ids/a}', '{x,x}', '{1,1}', event_ids => pg_temp.ids(31, 1))$$);
SELECT CASE WHEN pg_temp.stored() = :'before' THEN 'nothing written' ELSE 'WRITTEN' END;
\pset tuples_only
\pset format aligned

-- An append that was rolled back has left no id.
BEGIN;
SELECT allsource.es_append('ids/a', 'x', '40', event_id => pg_temp.id(40));
SELECT allsource.es_append('ids/a', 'x', '40', event_id => pg_temp.id(40)) AS a_retry_in_the_same_transaction;
ROLLBACK;
SELECT allsource.es_append('ids/a', 'z', '41', event_id => pg_temp.id(40));

SELECT version, event_type, payload, event_id FROM allsource.es_read('ids/a');
SELECT count(*) AS ids FROM allsource.event_ids WHERE stream_no = (SELECT stream_no FROM allsource.es_stream('ids/a'));
SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'ids/%';
