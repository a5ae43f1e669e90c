-- What the golden files share. They read this quietly, so that each can be run on its own; it lives
-- in pg_temp, so that nothing is left behind.

-- Runs a statement and says how it ended: the SQLSTATE and the texts of its error, whose writes are
-- rolled back, or "no error".
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat(state, ' ', message,
                  E'\n  DETAIL: ' || nullif(detail, ''),
                  E'\n  HINT: ' || nullif(hint, ''));
END
$$;

-- How much the tables of the store hold: the same before and after says that nothing was written.
CREATE FUNCTION pg_temp.stored() RETURNS text
BEGIN ATOMIC
    SELECT format('%s streams, %s runs, %s events, %s ids, versions %s',
                  (SELECT count(*) FROM allsource.event_streams),
                  count(*), sum(cardinality(l.event_types)),
                  (SELECT count(*) FROM allsource.event_ids),
                  (SELECT sum(s.current_version) FROM allsource.event_streams s))
      FROM allsource.event_log l;
END;

-- The nodes of a statement's plan that read a table or an index, each kind once.
CREATE FUNCTION pg_temp.scans(statement text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    line text;
    kinds text[] := '{}';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
        kinds := kinds || substring(line FROM '([A-Z][A-Za-z ]* Scan)(?: Backward)?(?: using| on|$)');
    END LOOP;
    RETURN QUERY SELECT DISTINCT k FROM unnest(kinds) k WHERE k IS NOT NULL ORDER BY 1;
END
$$;
