-- What goes in comes out: payloads, metadata and types of every kind.

-- Every kind of jsonb, scalars included; as text, so that nothing is lost in comparing.
CREATE TEMPORARY TABLE given (n int, payload jsonb);
INSERT INTO given
SELECT ordinality, payload::jsonb
  FROM unnest(ARRAY[
           'null', 'true', 'false', '0', '-0', '-1.5', '1.10', '1.100', '0.000', '1e3', '1E-7', '100.00e2',
           '123456789012345678901234567890.123456789', '1e30',
           '""', '"text"', '"quote \" backslash \\ slash /"', '"line\nbreak\ttab"', '"ä€😀"', '"\u00e9"',
           '[]', '{}', '[[]]', '[{}]', '{"": ""}', '[null]', '[1, "a", null, true, {"b": [2.50]}]',
           '{"b": 1, "a": {"z": [1, 2, {"y": null}]}}', '{"a": 1, "a": 2}', '{"ключ": "значение"}'
       ]) WITH ORDINALITY AS t (payload, ordinality);

SELECT count(*) AS appended FROM given, allsource.es_append('values/one', 'x', payload, payload);
SELECT allsource.es_append_many('values/many', array_agg('x'::text ORDER BY n), array_agg(payload ORDER BY n), array_agg(payload ORDER BY n))
  FROM given;
SELECT stream_id, count(*) AS events, bool_and(e.payload::text = g.payload::text AND e.metadata::text = g.payload::text) AS same
  FROM unnest(ARRAY['values/one', 'values/many']) AS name, allsource.es_read(name) AS e
  FULL JOIN given g ON g.n = e.version
 GROUP BY 1
 ORDER BY 1;
SELECT version, payload, jsonb_typeof(payload) FROM allsource.es_read('values/many');

-- Metadata NULL for some: first, last, in between, around the eighth where the bitmap's byte ends.
SELECT allsource.es_append_many('values/nulls', array_agg('x'::text ORDER BY i), array_agg(to_jsonb(i) ORDER BY i),
                                array_agg(CASE WHEN i IN (2, 3, 8, 9, 16) THEN to_jsonb('m' || i) END ORDER BY i))
  FROM generate_series(1, 17) AS i;
SELECT string_agg(coalesce(metadata #>> '{}', '-'), ' ' ORDER BY version) FROM allsource.es_read('values/nulls');
SELECT string_agg(coalesce(metadata #>> '{}', '-'), ' ' ORDER BY version) FROM allsource.events WHERE stream_id = 'values/nulls';

-- Types and payloads of all lengths up to 255, so that each stands on another boundary.
SELECT allsource.es_append_many('values/types', array_agg(repeat('t', i) ORDER BY i), array_agg(to_jsonb(repeat('p', i)) ORDER BY i))
  FROM generate_series(1, 255) AS i;
SELECT count(*), bool_and(event_type = repeat('t', version::int) AND payload = to_jsonb(repeat('p', version::int))) AS same
  FROM allsource.es_read('values/types');

-- Payloads that are stored out of line: text that hardly compresses, at the start, in the middle
-- and at the end of a call, larger than a page by far.
CREATE FUNCTION pg_temp.noise(bytes int, seed text) RETURNS text
LANGUAGE sql RETURN (SELECT left(string_agg(md5(seed || i), ''), bytes) FROM generate_series(1, bytes / 32 + 1) AS i);
CREATE TEMPORARY TABLE large AS
SELECT n, jsonb_build_object('n', n, 'noise', pg_temp.noise(size, 'seed ' || n)) AS payload
  FROM unnest(ARRAY[500000, 10, 300000, 10, 7000, 7000, 400000]) WITH ORDINALITY AS t (size, n);
SELECT count(*) AS appended FROM large, allsource.es_append('values/large-one', 'x', payload, payload);
SELECT allsource.es_append_many('values/large-many', array_agg('x'::text ORDER BY n), array_agg(payload ORDER BY n), array_agg(payload ORDER BY n))
  FROM large;
SELECT stream_id, count(*) AS events, sum(length(e.payload ->> 'noise')) AS characters,
       bool_and(e.payload = l.payload AND e.metadata = l.payload) AS same
  FROM unnest(ARRAY['values/large-one', 'values/large-many']) AS name, allsource.es_read(name) AS e
  FULL JOIN large l ON l.n = e.version
 GROUP BY 1
 ORDER BY 1;
-- The same through the view, backward, and in the order of positions.
SELECT count(*), bool_and(e.payload = l.payload AND e.metadata = l.payload) AS same
  FROM allsource.events e FULL JOIN large l ON l.n = e.version WHERE e.stream_id LIKE 'values/large-%';
SELECT array_agg(version) AS versions FROM allsource.es_read('values/large-many', backward => true);
SELECT count(*), bool_and(e.payload = l.payload) AS same
  FROM allsource.es_read('values/large-many', backward => true) AS e JOIN large l ON l.n = e.version;
SELECT count(*), bool_and(e.payload = l.payload) AS same
  FROM allsource.es_read_all((SELECT "position" - 1 FROM allsource.es_read('values/large-one', 1, 1))) AS e
  JOIN large l ON l.n = e.version;

-- Values that are toasted themselves are stored as what they are, and not as a pointer to it.
CREATE TEMPORARY TABLE toasted (types text[], payloads jsonb[], payload jsonb);
ALTER TABLE toasted ALTER types SET STORAGE EXTERNAL, ALTER payloads SET STORAGE EXTERNAL, ALTER payload SET STORAGE EXTERNAL;
INSERT INTO toasted
SELECT array_agg('type ' || n), array_agg(payload), (SELECT payload FROM large WHERE n = 3)
  FROM large, generate_series(1, 500) WHERE n = 2;
SELECT allsource.es_append_many('values/toasted', types, payloads), allsource.es_append('values/toasted', 'one', payload) FROM toasted;
DROP TABLE toasted;
SELECT count(*), count(*) FILTER (WHERE e.payload = (SELECT payload FROM large WHERE n = 2)) AS small,
       count(*) FILTER (WHERE e.payload = (SELECT payload FROM large WHERE n = 3)) AS large
  FROM allsource.es_read('values/toasted') AS e;

SELECT * FROM allsource.es_verify() WHERE stream_id LIKE 'values/%';
