-- Loads lines from standard input and looks at what they became. Run by demo.sh, with the variables
-- source (dpkg or git) and style (the lines around tables). Run again, it loads only what is new.

\pset footer off
\pset linestyle :style
\pset null '-'
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS allsource;
ALTER EXTENSION allsource UPDATE;
ALTER DATABASE demo SET search_path = allsource, public;
SET search_path = allsource, public;

\ir history.sql

-- What is not there yet, in portions below allsource.max_batch_events.
CREATE TEMP TABLE new_event AS
SELECT e.*, (row_number() OVER (ORDER BY n) - 1) / 20000 AS portion
  FROM event AS e
 WHERE NOT EXISTS (SELECT FROM events AS s WHERE s.stream_id = e.stream_id AND s.event_id = e.event_id);
ANALYZE new_event;

SELECT count(*) AS new, count(*) > 0 AS any_new FROM new_event \gset
SELECT count(*) AS lines FROM line \gset
SELECT :lines - count(*) AS odd, :lines > count(*) AS any_odd FROM event \gset
SELECT clock_timestamp() AS began \gset

-- One call, and one transaction, for each portion.
\t on
\pset format unaligned
\echo '==> es_append_batch:' :new 'new events, from' :lines 'lines'
SELECT format(
           $$SELECT format('    %%s of %%s events written, to %%s streams', %s, %s, count(*))
               FROM (SELECT array_agg(stream_id ORDER BY n) AS stream_ids, array_agg(event_type ORDER BY n) AS event_types,
                            array_agg(payload ORDER BY n) AS payloads, array_agg(event_id ORDER BY n) AS event_ids
                       FROM new_event WHERE portion = %s) AS a,
                    es_append_batch(a.stream_ids, a.event_types, a.payloads, event_ids => a.event_ids)$$,
           sum(count(*)) OVER (ORDER BY portion), :new, portion)
  FROM new_event GROUP BY portion ORDER BY portion \gexec
\if :any_new
    SELECT format('    in %s ms: %s events per second', round(ms), round(1000 * :new / ms))
      FROM (SELECT extract(epoch FROM clock_timestamp() - :'began') * 1000 AS ms) AS t;
\else
    \echo '    all of them were loaded before'
\endif
\if :any_odd
    \echo '   ' :odd 'lines of another form were left out'
\endif
\pset format aligned
\t off

-- A stream to look at that is neither empty nor endless, with an upgrade in it if there is one.
SELECT stream_id AS stream
  FROM event
 WHERE stream_id ~ '^(package|author)-'
 GROUP BY stream_id
 ORDER BY bool_or(event_type = 'upgrade') DESC, abs(count(*) - 12), stream_id LIMIT 1 \gset

\echo
\echo '==> what is in the store'
\set ECHO queries
SELECT count(*) AS streams, sum(current_version) AS events, max(current_version) AS longest, es_safe_position()
  FROM event_streams;
\unset ECHO

\echo
\echo '==> one stream, read back'
\set ECHO queries
SELECT version, event_type, (payload->>'at')::timestamp AS at, payload - 'at' AS payload
  FROM es_read(:'stream', max_count => 15);
\unset ECHO

\echo
\echo '==> a writer who believes that this stream is new is refused'
CREATE FUNCTION pg_temp.refusal(stream text) RETURNS TABLE (code text, error text, detail text)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM es_append(stream, 'surprise', '{}', expected_version => 0);
    RAISE EXCEPTION 'the conflicting append was accepted';
EXCEPTION WHEN serialization_failure THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, error = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN NEXT;
END
$$;
\echo 'SELECT es_append(':'stream', '''surprise''', '''{}''', 'expected_version => 0);'
SELECT * FROM pg_temp.refusal(:'stream');

\echo '==> every stream has its versions 1 to n, each once; es_verify has a row for each fault'
\set ECHO queries
SELECT count(*) FILTER (WHERE es_verify_gapless(stream_id)) AS gapless, count(*) AS streams FROM event_streams;
SELECT count(*) AS faults FROM es_verify();
\unset ECHO

\echo
\echo '==> the partitions, of which there are always 32; here the five largest'
\set ECHO queries
SELECT partition_id, stream_count, total_events, last_position, pg_size_pretty(size_bytes) AS size
  FROM partition_stats ORDER BY total_events DESC, partition_id LIMIT 5;
\unset ECHO
