-- Makes events, in the table event, from the lines of standard input: the package history, or that of the repository, as
-- the variable source (dpkg or git) says. Included by the demos.

CREATE TEMP TABLE line (n bigint GENERATED ALWAYS AS IDENTITY, text text);
\copy line (text) FROM pstdin WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')

-- The lines as events. An event's id follows from its line alone, so that a line is known again
-- whichever file it was rotated to; equal lines are told apart by counting them.
CREATE TEMP TABLE event (n bigint, stream_id text, event_type text, payload jsonb, event_id uuid);

SELECT :'source' = 'dpkg' AS from_dpkg \gset
\if :from_dpkg
    -- date time status STATE PACKAGE VERSION
    -- date time ACTION PACKAGE INSTALLED-VERSION AVAILABLE-VERSION
    -- and what is about dpkg itself: date time startup|conffile WORD WORD
    INSERT INTO event
    SELECT n,
           CASE WHEN w[3] IN ('startup', 'conffile') THEN 'dpkg'
                WHEN w[3] = 'status' THEN 'package-' || w[5]
                ELSE 'package-' || w[4]
           END,
           CASE WHEN w[3] = 'status' THEN 'status ' || w[4] ELSE w[3] END,
           jsonb_strip_nulls(
               jsonb_build_object('at', (w[1] || ' ' || w[2])::timestamptz) ||
               CASE WHEN w[3] = 'status' THEN jsonb_build_object('version', nullif(w[6], '<none>'))
                    WHEN w[3] = 'startup' THEN jsonb_build_object('what', array_to_string(w[4:], ' '))
                    WHEN w[3] = 'conffile' THEN jsonb_build_object('file', w[4], 'decision', w[5])
                    ELSE jsonb_build_object('installed', nullif(w[5], '<none>'), 'available', nullif(w[6], '<none>'))
               END),
           md5(text || ' ' || row_number() OVER (PARTITION BY text ORDER BY n))::uuid
      FROM (SELECT n, text, string_to_array(text, ' ') AS w FROM line) AS l
     WHERE text ~ '^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [a-z]+ \S+ \S';
\else
    -- commit, time, author and subject, with tabs between
    INSERT INTO event
    SELECT n,
           'author-' || left(w[3], 240),
           'commit',
           jsonb_build_object('at', w[2]::timestamptz, 'commit', w[1], 'subject', w[4]),
           left(w[1], 32)::uuid
      FROM (SELECT n, string_to_array(text, E'\t') AS w FROM line) AS l;
\endif
ANALYZE event;
