-- Names are compared byte by byte and never changed: every other byte is another stream.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
\i :folder/helpers.sql
\set ECHO all

CREATE TEMPORARY TABLE odd (what text, name text);
INSERT INTO odd VALUES
    ('composed',           E'names/caf\u00E9'),
    ('decomposed',         E'names/cafe\u0301'),
    ('lower case',         'names/cafe'),
    ('upper case',         'names/CAFE'),
    ('dotless i',          E'names/caf\u0131'),
    ('blank',              ' '),
    ('two blanks',         '  '),
    ('leading blank',      ' names/cafe'),
    ('trailing blank',     'names/cafe '),
    ('no-break space',     E'names/cafe\u00A0'),
    ('zero-width space',   E'names/ca\u200Bfe'),
    ('zero-width joiner',  E'names/ca\u200Dfe'),
    ('byte order mark',    E'\uFEFFnames/cafe'),
    ('right to left',      E'names/\u202Ecafe'),
    ('emoji',              E'names/\U0001F600'),
    ('emoji with tone',    E'names/\U0001F44D\U0001F3FD'),
    ('family',             E'names/\U0001F468\u200D\U0001F469\u200D\U0001F467'),
    ('last code point',    E'names/\U0010FFFF'),
    ('not a character',    E'names/\uFFFE'),
    ('tab and line breaks', E'names/a\tb\r\nc'),
    ('control character',  E'names/a\001b\177'),
    ('single quote',       $$names/it's$$),
    ('double quote',       $$names/"quoted"$$),
    ('backslash',          $$names/back\slash\\$$),
    ('injection',          $$names/'); DROP TABLE allsource.event_log; --$$),
    ('format',             'names/%s %n %I {0} $1 :name'),
    ('array literal',      'names/{a,b}'),
    ('null',               'NULL'),
    ('number',             '0'),
    ('like',               'names/%_'),
    ('longest',            repeat('n', 255)),
    ('longest, 2 bytes',   repeat('ä', 255)),
    ('longest, 4 bytes',   repeat(E'\U0001F600', 255));

-- Each in its own stream, by every way to write.
SELECT count(*) AS names, count(DISTINCT name COLLATE "C") AS streams, max(length(name)) AS characters, max(octet_length(name)) AS bytes FROM odd;
SELECT DISTINCT allsource.es_append(name, name, to_jsonb(name), expected_version => 0, tenant_id => name, entity_id => name) FROM odd;
SELECT DISTINCT allsource.es_append_many(name, ARRAY[name], ARRAY[to_jsonb(name)], expected_version => 1, tenant_id => name) FROM odd;
SELECT count(*) AS streams, min(first_version), max(last_version)
  FROM allsource.es_append_batch((SELECT array_agg(name) FROM odd), (SELECT array_agg(name) FROM odd), (SELECT array_agg(to_jsonb(name)) FROM odd),
                                 tenant_id => 'names');
SELECT count(*) AS created FROM odd, allsource.es_create_stream(name, 'names-2', name) AS s WHERE s.stream_id = name AND s.entity_id = name;

-- And by every way to read.
SELECT count(*) AS streams, bool_and(e.events = 2 AND e.same) AS as_written
  FROM odd, LATERAL (
           SELECT count(*) AS events,
                  bool_and(r.stream_id = name AND r.tenant_id = name AND r.event_type = name AND r.entity_id = name AND r.payload = to_jsonb(name)) AS same
             FROM allsource.es_read(name, tenant_id => name) AS r
       ) AS e;
SELECT count(*) AS streams FROM odd, allsource.es_stream(name, 'names') AS s WHERE s.stream_id = name AND s.current_version = 1;
SELECT count(*) AS streams FROM odd, allsource.es_streams(allsource.es_partition(name), max_count => NULL) AS s
 WHERE s.stream_id = name AND s.tenant_id = 'names' AND s.partition_id = allsource.es_partition(name);
SELECT count(*) AS events, count(DISTINCT e.stream_id) AS streams FROM allsource.events e WHERE e.tenant_id = 'names';
SELECT count(*) AS events FROM allsource.es_read_all(0, NULL, tenant_id => 'names') AS e JOIN odd ON e.stream_id = name AND e.event_type = name;
SELECT count(*) AS events FROM odd, allsource.es_read_all(0, NULL, event_types => ARRAY[name], tenant_id => name);
SELECT count(*) AS gapless FROM odd WHERE allsource.es_verify_gapless(name, name);
SELECT count(*) AS faults FROM odd, allsource.es_verify(stream_id => name);

-- In the order of their bytes.
SELECT what FROM odd JOIN allsource.event_streams s ON s.stream_id = name AND s.tenant_id = 'names'
 WHERE what ~ 'case|blank|composed|emoji$|width' ORDER BY s.stream_id;

-- Errors name them as they are.
\pset format unaligned
\pset tuples_only
SELECT pg_temp.outcome(format('SELECT allsource.es_append(%L, %L, %L, expected_version => 9, tenant_id => %L)', name, 'x', '{}', name))
  FROM odd WHERE what IN ('emoji', 'double quote', 'backslash', 'format');
-- Characters count, not bytes.
SELECT pg_temp.outcome(format('SELECT allsource.es_append(%L, %L, %L)', name || E'\U0001F600', 'x', '{}')) FROM odd WHERE what LIKE 'longest%';
-- The zero byte cannot be in a text.
SELECT left(pg_temp.outcome($$SELECT allsource.es_append(E'names/a\000b', 'x', '{}')$$), 50);
