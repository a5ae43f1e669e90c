-- What both do with connections.

-- A trigger and not a constraint, whose message would show the row.
CREATE FUNCTION allsource.link_check_conninfo() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pair    CONSTANT text := '([a-z_]+)\s*=\s*(''(?:[^''\\]|\\.)*''|(?:[^\s''\\]|\\.)+)';
    refused text[] := ARRAY['password', 'sslpassword', 'options'];
    found   text;
BEGIN
    IF TG_TABLE_NAME <> 'router_coordinator' THEN
        refused := refused || ARRAY['user'];
    END IF;
    IF NEW.conninfo !~ ('^\s*(' || pair || '\s*)+$') THEN
        RAISE EXCEPTION 'conninfo must be key=value pairs of libpq'
              USING ERRCODE = 'invalid_parameter_value',
                    HINT = 'For example: host=db1,db2 port=5432 dbname=store. A URI is not taken.';
    END IF;
    SELECT m.part[1] INTO found
      FROM regexp_matches(NEW.conninfo, pair, 'g') AS m (part)
     WHERE m.part[1] = ANY (refused)
     LIMIT 1;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'conninfo must not have "%"', found
              USING ERRCODE = 'invalid_parameter_value',
                    HINT = 'Everybody connects as himself; passwords belong into the password file of the server''s user.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION allsource.link_check_conninfo IS 'trigger: refuses what a conninfo must not have';

CREATE FUNCTION allsource.link_quote(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '''' || replace(replace(value, '\', '\\'), '''', '\''') || '''';
COMMENT ON FUNCTION allsource.link_quote IS 'a value for a connection string of libpq';

CREATE FUNCTION allsource.link_names_user(conninfo text) RETURNS bool
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(conninfo, '''(?:[^''\\]|\\.)*''', '''''', 'g') ~ '\muser\s*=';
COMMENT ON FUNCTION allsource.link_names_user IS 'whether a connection string has the key user, outside of quoted values';

CREATE FUNCTION allsource.link_close(name text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF name = ANY (allsource.link_connections()) THEN
        PERFORM allsource.link_disconnect(name);
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.link_close IS 'closes a connection if it is open; what was sent on it goes on';

-- The first link_busy takes the end of the last answer, or why the other side has closed; the second notices then
-- that it has. CASE fixes their order.
CREATE FUNCTION allsource.link_sent(name text, query text) RETURNS bool
LANGUAGE sql VOLATILE PARALLEL UNSAFE
RETURN CASE WHEN name = ANY (allsource.link_connections()) THEN CASE WHEN allsource.link_busy(name) + allsource.link_busy(name) = 0 THEN allsource.link_send(name, query) = 1 ELSE false END ELSE false END;
COMMENT ON FUNCTION allsource.link_sent IS 'sends a statement if the connection is open and can take it, and returns whether that was done';

CREATE FUNCTION allsource.link_answered(name text, until timestamptz) RETURNS bool
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- A wait that is not woken is repeated, so that nothing depends on being woken.
    piece_ms CONSTANT int4 := 1000;
    left_ms  int4;
    waited   bool;
BEGIN
    WHILE allsource.link_busy(name) = 1 LOOP
        left_ms := LEAST(piece_ms, extract(epoch FROM until - clock_timestamp()) * 1000);
        IF left_ms <= 0 THEN
            RETURN false;
        END IF;
        -- An assignment costs less than PERFORM.
        waited := allsource.link_wait(name, left_ms);
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION allsource.link_answered IS 'waits for an answer, and returns whether it has come in time; until NULL: without limit';

CREATE FUNCTION allsource.link_name(target text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN 'allsource ' || md5(target || ' ' || quote_ident(session_user) || ' ' || quote_ident(current_setting('role')));
COMMENT ON FUNCTION allsource.link_name IS 'a name for the caller''s own connection: two users must never share one';

CREATE FUNCTION allsource.link_open(name text, conninfo text, whom text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    said   text;
    reason text;
    code   text := '08006';
BEGIN
    PERFORM allsource.link_close(name);
    PERFORM allsource.link_connect(name, conninfo);
EXCEPTION
    WHEN sqlclient_unable_to_establish_sqlconnection THEN
        -- What libpq says has addresses in it.
        GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
        IF said ~ '(authentication|role|pg_hba|database ".*" does not exist|permission denied|not permitted)' AND said ~ 'FATAL' THEN
            code := '28000';
            reason := 'refused this user';
        ELSIF said ~ '(timeout|timed out)' THEN
            reason := 'does not answer';
        ELSIF said ~ '(read-only|standby|recovery)' THEN
            reason := 'has no primary at the moment';
        ELSIF said ~ '(starting up|shutting down|not yet accepting)' THEN
            reason := 'is starting or stopping';
        ELSIF said ~ 'too many' THEN
            reason := 'has too many connections';
        ELSE
            reason := 'refused the connection';
        END IF;
        RAISE EXCEPTION '% cannot be reached', whom
              USING ERRCODE = code, DETAIL = format('It %s.', reason);
END
$$;
COMMENT ON FUNCTION allsource.link_open IS 'opens a connection, anew if there is one, without telling anybody the addresses';
