-- Dead letters: pages of them, and what can be done with one.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

SELECT allsource.es_append('letters/a', 'x', '"first"', entity_id => 'entity-1');
SELECT allsource.es_enqueue('letters/a', 'y', to_jsonb(n), '{"m": 1}', entity_id => 'entity-2') FROM generate_series(1, 5) AS n;
SELECT allsource.es_flush() >= 0;
SELECT min(id) AS first, max(id) AS last FROM allsource.dead_letters \gset
SELECT count(*), :last - :first AS span FROM allsource.dead_letters;

-- What is kept of an event.
SELECT sqlstate, reason, tenant_id, stream_id, entity_id, event_type, payload, metadata, event_id, failed_at >= enqueued_at AS later
  FROM allsource.es_dead_letters() LIMIT 1;
-- Pages, oldest first.
SELECT payload FROM allsource.es_dead_letters(max_count => 2);
SELECT payload FROM allsource.es_dead_letters(:first + 1, 2);
SELECT payload FROM allsource.es_dead_letters(after_id => :last);
SELECT count(*) FROM allsource.es_dead_letters(max_count => 0);
SELECT count(*) FROM allsource.es_dead_letters(max_count => NULL);
SELECT count(*) FROM allsource.es_dead_letters(after_id => NULL);
SELECT pg_temp.outcome('SELECT * FROM allsource.es_dead_letters(max_count => -1)');

-- One that is not there.
SELECT pg_temp.outcome('SELECT allsource.es_dead_letter_retry(-1)');
SELECT pg_temp.outcome('SELECT allsource.es_dead_letter_discard(-1)');
SELECT pg_temp.outcome('SELECT allsource.es_dead_letter_retry(NULL)');
SELECT pg_temp.outcome('SELECT allsource.es_dead_letter_discard(NULL)');
-- One that cannot be written still.
SELECT pg_temp.outcome(format('SELECT allsource.es_dead_letter_retry(%s)', :first));
SELECT count(*) FROM allsource.dead_letters;
-- Thrown away, or not, as the transaction ends.
BEGIN;
SELECT allsource.es_dead_letter_discard(:first);
ROLLBACK;
SELECT count(*) FROM allsource.dead_letters;
SELECT allsource.es_dead_letter_discard(:first);
SELECT payload FROM allsource.es_dead_letters(max_count => 1);
-- Written, when what was wrong is right, after what came in between.
UPDATE allsource.event_streams SET entity_id = 'entity-2' WHERE stream_id = 'letters/a';
SELECT allsource.es_append('letters/a', 'x', '"second"', entity_id => 'entity-2');
SELECT allsource.es_dead_letter_retry(:first + 1);
BEGIN;
SELECT allsource.es_dead_letter_retry(:last);
ROLLBACK;
SELECT allsource.es_dead_letter_retry(id) FROM allsource.es_dead_letters();
SELECT version, event_type, payload, metadata FROM allsource.es_read('letters/a');
SELECT count(*) FROM allsource.dead_letters;
SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'letters/%';
