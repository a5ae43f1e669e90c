-- Appends belong to the caller's transaction.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
PREPARE stream(text) AS SELECT version, event_type, payload FROM allsource.es_read($1);

-- A rollback takes back events, streams and ids.
SELECT pg_temp.stored() AS before \gset
BEGIN;
SELECT allsource.es_append('tx/a', 'x', '1', event_id => '00000000-0000-0000-0000-000000000001');
SELECT allsource.es_append_many('tx/b', '{x,x}', '{1,2}');
SELECT count(*) FROM allsource.es_append_batch('{tx/c,tx/a}', '{x,x}', '{1,2}');
SELECT count(*) FROM allsource.es_create_stream('tx/d');
ROLLBACK;
SELECT pg_temp.stored() = :'before' AS nothing_written;
SELECT allsource.es_stream_watermark('tx/a') IS NULL AND allsource.es_stream_watermark('tx/d') IS NULL AS no_streams;

-- Later statements of the transaction see what was appended, by every way of reading but es_read_all.
BEGIN;
SELECT allsource.es_append('tx/a', 'x', '1');
EXECUTE stream('tx/a');
SELECT version, payload FROM allsource.events WHERE stream_id = 'tx/a';
SELECT current_version FROM allsource.es_stream('tx/a');
SELECT allsource.es_append('tx/a', 'x', '2', expected_version => 1);
SELECT allsource.es_append_many('tx/a', '{x,x}', '{3,4}', expected_version => 2);
SELECT first_version, last_version FROM allsource.es_append_batch('{tx/a}', '{x}', '{5}', expected_versions => ARRAY[4]);
EXECUTE stream('tx/a');
COMMIT;
EXECUTE stream('tx/a');

-- Savepoints: what came after is gone, what came before stays; versions and positions fit together.
BEGIN;
SELECT allsource.es_append('tx/a', 'before', '6');
SAVEPOINT one;
SELECT allsource.es_append('tx/a', 'gone', '7');
SELECT allsource.es_append('tx/s', 'gone', '1');
SAVEPOINT two;
SELECT allsource.es_append('tx/a', 'gone', '8');
RELEASE two;
ROLLBACK TO one;
SELECT max(version) FROM allsource.es_read('tx/a');
SELECT allsource.es_append('tx/a', 'after', '7', expected_version => 6);
SELECT allsource.es_append('tx/s', 'after', '1', expected_version => 0);
SAVEPOINT three;
SELECT allsource.es_append('tx/a', 'released', '8');
RELEASE three;
COMMIT;
SELECT version, event_type, payload, "position" > lag("position") OVER (ORDER BY version) AS in_order FROM allsource.es_read('tx/a', 5);
EXECUTE stream('tx/s');

-- A wrong expected version spoils the transaction like any error; up to a savepoint, if there is one.
BEGIN;
SELECT allsource.es_append('tx/a', 'x', '9');
SELECT allsource.es_append('tx/a', 'x', '10', expected_version => 3);
SELECT allsource.es_append('tx/a', 'x', '10');
COMMIT;
BEGIN;
SELECT allsource.es_append('tx/a', 'x', '9');
SAVEPOINT one;
SELECT allsource.es_append('tx/a', 'x', '10', expected_version => 3);
ROLLBACK TO one;
SELECT allsource.es_append('tx/a', 'x', '10', expected_version => 9);
COMMIT;
SELECT max(version) FROM allsource.es_read('tx/a');

-- With the user's own tables: both or nothing.
CREATE TEMPORARY TABLE orders (id int PRIMARY KEY, version bigint);
BEGIN;
INSERT INTO orders SELECT 1, allsource.es_append('tx/order-1', 'placed', '{}');
COMMIT;
BEGIN;
SELECT allsource.es_append('tx/order-1', 'changed', '{}');
INSERT INTO orders VALUES (1, 2);
COMMIT;
SELECT * FROM orders;
EXECUTE stream('tx/order-1');

-- Several appends in one statement: each sees those before it, a snapshot of the statement does not.
SELECT allsource.es_append('tx/many', 'x', '1') AS first, allsource.es_append('tx/many', 'x', '2') AS second,
       allsource.es_append('tx/many', 'x', '3', expected_version => 2) AS third, (SELECT count(*) FROM allsource.es_read('tx/many')) AS read;
SELECT pg_temp.outcome($$SELECT allsource.es_append('tx/many', 'x', '4'), allsource.es_append('tx/many', 'x', '5', expected_version => 3)$$);
SELECT max(version) FROM allsource.es_read('tx/many');

-- REPEATABLE READ and SERIALIZABLE work as long as nobody else interferes.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT allsource.es_append('tx/rr', 'x', '1');
SELECT allsource.es_append('tx/rr', 'x', '2', expected_version => 1);
EXECUTE stream('tx/rr');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT allsource.es_append('tx/rr', 'x', '3', expected_version => 2);
EXECUTE stream('tx/rr');
COMMIT;

-- A read-only transaction reads and does not write.
BEGIN READ ONLY;
SELECT count(*) FROM allsource.es_read('tx/rr');
SELECT count(*) > 0 AS some FROM allsource.es_read_all();
SELECT allsource.es_safe_position() > 0 AS safe;
SELECT count(*) FROM allsource.es_stream('tx/rr');
SELECT pg_temp.outcome($$SELECT allsource.es_append('tx/rr', 'x', '4')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('tx/rr', '{x}', '{4}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{tx/rr}', '{x}', '{4}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('tx/new')$$);
COMMIT;

-- PREPARE TRANSACTION cannot keep the promise about positions, so it is refused after an append.
BEGIN;
SELECT allsource.es_append('tx/rr', 'x', '4');
PREPARE TRANSACTION 'allsource-regress';
\echo :SQLSTATE :LAST_ERROR_MESSAGE
SELECT max(version) FROM allsource.es_read('tx/rr');

SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'tx/%';
