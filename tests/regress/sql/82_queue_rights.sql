-- Who may hand over, look, and manage; and that nothing of it works where nothing may be written.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

-- Two dead letters, committed, so that there is something to try.
SELECT allsource.es_append('rights/queue', 'x', '1', entity_id => 'entity-1');
SELECT allsource.es_enqueue_batch('{rights/queue-2,rights/queue-2}', '{x,x}', '{1,2}',
                                  event_ids => '{00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000001}');
SELECT allsource.es_flush() >= 0;
SELECT max(id) AS letter FROM allsource.dead_letters \gset

-- Roles belong to the server, so all of this is rolled back; but what is enqueued stays.
BEGIN;
CREATE ROLE regress_plain;
CREATE ROLE regress_reader IN ROLE allsource_reader;
CREATE ROLE regress_writer IN ROLE allsource_writer;
CREATE ROLE regress_admin IN ROLE allsource_admin;
CREATE FUNCTION pg_temp.answer(role name, call text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    outcome := pg_temp.outcome(call);
    RESET ROLE;
    RETURN CASE outcome WHEN 'no error' THEN 'yes' ELSE left(outcome, 5) END;
END
$$;
CREATE TEMPORARY TABLE calls (n serial, call text);
INSERT INTO calls (call) VALUES
    ($$SELECT allsource.es_enqueue('rights/queue', 'x', '2')$$),
    ($$SELECT allsource.es_enqueue('rights/queue', 'x', '2', durable => true)$$),
    ($$SELECT allsource.es_enqueue_batch('{rights/queue}', '{x}', '{2}')$$),
    ($$SELECT allsource.es_flush()$$),
    ($$SELECT * FROM allsource.es_queue_stats()$$),
    ($$SELECT * FROM allsource.queue_stats$$),
    ($$SELECT * FROM allsource.es_metrics()$$),
    ($$SELECT * FROM allsource.metrics$$),
    ($$SELECT allsource.es_metrics_prometheus()$$),
    ($$SELECT * FROM allsource.es_health()$$),
    ($$SELECT * FROM allsource.es_dead_letters()$$),
    ($$SELECT * FROM allsource.dead_letters$$),
    ($$SELECT * FROM allsource.safe_position$$),
    ($$SELECT allsource.es_worker_pause()$$),
    ($$SELECT allsource.es_worker_resume()$$),
    ($$SELECT allsource.es_adopt_waiting_events()$$),
    ($$SELECT allsource.es_dead_letter_retry(-1)$$),
    ($$SELECT allsource.es_dead_letter_discard(-1)$$),
    ($$INSERT INTO allsource.dead_letters DEFAULT VALUES$$),
    ($$DELETE FROM allsource.dead_letters$$),
    ($$UPDATE allsource.safe_position SET position = 0$$),
    ($$SELECT nextval('allsource.dead_letters_id_seq')$$);
SELECT call, pg_temp.answer('regress_plain', call) AS plain, pg_temp.answer('regress_reader', call) AS reader,
       pg_temp.answer('regress_writer', call) AS writer, pg_temp.answer('regress_admin', call) AS admin
  FROM calls ORDER BY n;
-- The right to call the functions is not enough.
CREATE ROLE regress_caller;
GRANT USAGE ON SCHEMA allsource TO regress_caller;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA allsource TO regress_caller;
SELECT call, pg_temp.answer('regress_caller', call) AS caller FROM calls WHERE call LIKE '%es\_%' ORDER BY n;
SET ROLE regress_caller;
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('rights/queue', 'x', '2')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_worker_pause()$$);
RESET ROLE;
-- A SECURITY DEFINER function of a writer lends its rights.
SET ROLE regress_writer;
CREATE FUNCTION pg_temp.hand_over(name text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN allsource.es_enqueue(name, 'lent', '{}', durable => true);
SET ROLE regress_plain;
SELECT pg_temp.hand_over('rights/lent');
RESET ROLE;
ROLLBACK;
SELECT version, event_type FROM allsource.es_read('rights/lent');

-- Nothing that writes works in a read-only transaction; what looks does.
SELECT sum(enqueued) AS before FROM allsource.queue_stats \gset
BEGIN READ ONLY;
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('rights/queue', 'x', '3')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue('rights/queue', 'x', '3', durable => true)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_enqueue_batch('{rights/queue}', '{x}', '{3}')$$);
SELECT pg_temp.outcome(format($$SELECT allsource.es_dead_letter_retry(%s)$$, :letter));
SELECT pg_temp.outcome(format($$SELECT allsource.es_dead_letter_discard(%s)$$, :letter));
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_dead_letters()$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.queue_stats$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.metrics$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_health()$$);
ROLLBACK;
SELECT sum(enqueued) = :before AS nothing_was_handed_over FROM allsource.queue_stats;
SELECT allsource.es_dead_letter_discard(:letter);
SELECT count(*) FROM allsource.dead_letters;
