-- Appends and reads from wherever SQL may call a function.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
PREPARE stream(text) AS SELECT version, event_type, payload FROM allsource.es_read($1);

-- PL/pgSQL: a block with an exception handler is a savepoint.
CREATE FUNCTION pg_temp.try_append(name text, expected bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v bigint;
BEGIN
    PERFORM allsource.es_append(name, 'attempt', 'null');
    v := allsource.es_append(name, 'checked', to_jsonb(expected), expected_version => expected + 1);
    RETURN 'version ' || v;
EXCEPTION WHEN serialization_failure THEN
    PERFORM allsource.es_append(name, 'conflict', to_jsonb(expected));
    RETURN SQLERRM;
END
$$;
SELECT pg_temp.try_append('callers/a', 0);
SELECT pg_temp.try_append('callers/a', 0);
SELECT pg_temp.try_append('callers/a', 3);
EXECUTE stream('callers/a');

-- A loop with a handler for each round; what a round reads, it has just written.
DO $$
BEGIN
    FOR i IN 1..6 LOOP
        BEGIN
            PERFORM allsource.es_append('callers/loop', 'x', to_jsonb(i), expected_version => i / 2);
        EXCEPTION WHEN serialization_failure THEN
            IF (SELECT count(*) FROM allsource.es_read('callers/loop')) <> allsource.es_stream_watermark('callers/loop') THEN
                RAISE EXCEPTION 'what was read does not fit';
            END IF;
        END;
    END LOOP;
END
$$;
EXECUTE stream('callers/loop');

-- Procedures that commit on the way.
CREATE PROCEDURE pg_temp.append_and_commit() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM allsource.es_append('callers/procedure', 'committed', '1');
    COMMIT;
    PERFORM allsource.es_append('callers/procedure', 'rolled back', '2');
    ROLLBACK;
    PERFORM allsource.es_append('callers/procedure', 'committed', '3');
END
$$;
CALL pg_temp.append_and_commit();
EXECUTE stream('callers/procedure');

-- A trigger that records what happens to a table.
CREATE TEMPORARY TABLE accounts (id int PRIMARY KEY, balance numeric);
CREATE FUNCTION pg_temp.record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM allsource.es_append('callers/account-' || NEW.id, lower(TG_OP), to_jsonb(NEW), to_jsonb(OLD));
    RETURN NULL;
END
$$;
CREATE TRIGGER record AFTER INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION pg_temp.record();
INSERT INTO accounts SELECT i, i * 1.50 FROM generate_series(1, 3) AS i;
UPDATE accounts SET balance = balance + 1 WHERE id > 1;
BEGIN;
UPDATE accounts SET balance = 0;
ROLLBACK;
SELECT stream_id, version, event_type, payload, metadata FROM allsource.events WHERE stream_id LIKE 'callers/account-%' ORDER BY 1, 2;

-- WITH: an append in a query of its own, which other parts take the result of.
WITH written AS (
    SELECT allsource.es_append('callers/with', 'x', to_jsonb(i)) AS version FROM generate_series(1, 3) AS i
)
SELECT min(version), max(version), count(*) FROM written;
WITH moved AS (
    DELETE FROM accounts RETURNING *
), written AS MATERIALIZED (
    SELECT allsource.es_append('callers/with', 'deleted', to_jsonb(moved.*)) AS version FROM moved
)
SELECT count(*) AS written FROM written;
EXECUTE stream('callers/with');
-- From a table's rows, with the default of a missing argument.
CREATE TEMPORARY TABLE inbox (stream text, type text, payload jsonb, PRIMARY KEY (stream, type));
INSERT INTO inbox VALUES ('callers/inbox-1', 'x', '1'), ('callers/inbox-2', 'x', '2'), ('callers/inbox-1', 'y', '3');
SELECT b.stream_id, b.first_version, b.last_version
  FROM (SELECT array_agg(stream ORDER BY payload) AS s, array_agg(type ORDER BY payload) AS t, array_agg(payload ORDER BY payload) AS p FROM inbox) AS i,
       allsource.es_append_batch(i.s, i.t, i.p) AS b;

-- Prepared statements, more often than it takes to plan them once and for all.
PREPARE append(text, text, jsonb, bigint) AS SELECT allsource.es_append($1, $2, $3, expected_version => $4);
EXECUTE append('callers/prepared', 'x', '1', 0);
EXECUTE append('callers/prepared', 'x', '2', 1);
EXECUTE append('callers/prepared', 'x', '3', NULL);
EXECUTE append('callers/prepared', 'x', '4', 3);
EXECUTE append('callers/prepared', 'x', '5', -1);
EXECUTE append('callers/prepared', 'x', '6', 5);
EXECUTE append('callers/prepared', 'x', '7', 5);
EXECUTE append('callers/prepared', 'x', '7', 6);
PREPARE range(text, bigint, bigint) AS SELECT version FROM allsource.es_read($1, $2, $3);
SET plan_cache_mode = force_generic_plan;
EXECUTE range('callers/prepared', 3, 2);
EXECUTE range('callers/a', NULL, 1);
RESET plan_cache_mode;

-- Cursors: what they read is fixed when they are opened.
BEGIN;
DECLARE reading SCROLL CURSOR FOR SELECT version, payload FROM allsource.es_read('callers/prepared');
FETCH 2 FROM reading;
SELECT allsource.es_append('callers/prepared', 'x', '8');
FETCH ALL FROM reading;
FETCH BACKWARD 2 FROM reading;
FETCH ABSOLUTE 1 FROM reading;
SAVEPOINT one;
SELECT allsource.es_append('callers/prepared', 'x', '9');
ROLLBACK TO one;
FETCH NEXT FROM reading;
COMMIT;
DECLARE held CURSOR WITH HOLD FOR SELECT version FROM allsource.es_read('callers/prepared', backward => true);
FETCH 2 FROM held;
CLOSE held;

-- A read that is not read to its end, and one inside of an append.
SELECT version FROM allsource.es_read('callers/prepared') LIMIT 2;
SELECT allsource.es_append('callers/copy', event_type, payload) FROM allsource.es_read('callers/a') LIMIT 2;
EXECUTE stream('callers/copy');
SELECT allsource.es_append('callers/self', 'x', '1');
SELECT count(allsource.es_append('callers/self', 'x', payload)) FROM allsource.es_read('callers/self');
SELECT count(*) FROM allsource.es_read('callers/self');

SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'callers/%';
