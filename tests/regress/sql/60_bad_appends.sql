-- What bad arguments of the writing functions get: one clear error, and nothing written.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all
\pset format unaligned
\pset tuples_only

SELECT allsource.es_append('bad/a', 'x', '1', entity_id => 'entity-1');
SELECT pg_temp.stored() AS before \gset

-- es_append: names.
SELECT pg_temp.outcome($$SELECT allsource.es_append(NULL, 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('', 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append(repeat('n', 256), 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append(repeat('注', 256), 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append(repeat('n', 1000000), 'x', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', NULL, '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', '', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', repeat('ä', 256), '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', tenant_id => NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', tenant_id => '')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', tenant_id => repeat('t', 256))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', entity_id => '')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', entity_id => repeat('e', 256))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', entity_id => 'entity-2')$$);
-- es_append: payload, expected version, and what PostgreSQL's types refuse themselves.
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', expected_version => -2)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', expected_version => -9223372036854775808)$$);
SELECT left(pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{')$$), 41);
SELECT left(pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '"\u0000"')$$), 41);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x', '{}', event_id => 'no uuid')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append('bad/a', 'x')$$);

-- es_append_many: arrays.
SELECT pg_temp.outcome($$SELECT allsource.es_append_many(NULL, '{x}', '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('', '{x}', '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', NULL, '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x}', NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{}', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x}', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x,y}', '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x,y}', '{1,2}', metadata => '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x,y}', '{1,2}', metadata => '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x}', '{1}', event_ids => ARRAY[NULL, NULL]::uuid[])$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{{x,y}}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x,y}', '{{1},{2}}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x,y}', '{1,2}', metadata => '{{1,2}}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x}', '{1}', event_ids => '{{{00000000-0000-0000-0000-000000000001}}}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x,NULL}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x,y,z}', '{1,2,NULL}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x,""}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', ARRAY['x', repeat('y', 256)], '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x}', '{1}', expected_version => -2)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x}', '{1}', tenant_id => NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_many('bad/a', '{x}', '{1}', entity_id => 'entity-2')$$);

-- es_append_batch: the same, for streams and expected versions too. The streams before a bad one are
-- not written either.
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch(NULL, '{x}', '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/a}', NULL, '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/a}', '{x}', NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{}', '{}', '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/a,bad/b}', '{x}', '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/a}', '{x,y}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/a,bad/b}', '{x,x}', '{1,2}', expected_versions => '{1}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/a}', '{x}', '{1}', metadata => '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/a}', '{x}', '{1}', event_ids => '{}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{{bad/a},{bad/b}}', '{x,x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/a,bad/b}', '{x,x}', '{1,2}', expected_versions => '{{1,1}}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/new,NULL}', '{x,x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/new,""}', '{x,x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch(ARRAY['bad/new', repeat('n', 300)], '{x,x}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/new,bad/a}', '{x,NULL}', '{1,2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/new,bad/a}', '{x,x}', '{1,NULL}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/new,bad/a}', '{x,x}', '{1,2}', expected_versions => '{0,-2}')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_append_batch('{bad/new}', '{x}', '{1}', tenant_id => NULL)$$);

-- es_create_stream.
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream(NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream(repeat('n', 256))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('bad/new', NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('bad/new', repeat('t', 256))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('bad/new', entity_id => '')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_create_stream('bad/a', entity_id => 'entity-2')$$);

SELECT CASE WHEN pg_temp.stored() = :'before' THEN 'nothing written' ELSE 'WRITTEN' END;
