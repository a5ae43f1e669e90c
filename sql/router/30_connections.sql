-- Connections to the groups and the coordinator.

CREATE FUNCTION allsource.router_role() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN NULLIF(current_setting('role'), 'none');
COMMENT ON FUNCTION allsource.router_role IS 'what the session has said in SET ROLE, or NULL';

CREATE FUNCTION allsource.router_conninfo(target int4) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    conninfo text;
    -- Values have to come as they are, whatever the user prefers.
    options  text := '-c client_min_messages=error -c datestyle=iso -c intervalstyle=postgres -c timezone=utc -c extra_float_digits=1 -c bytea_output=hex';
    role     CONSTANT text := allsource.router_role();
BEGIN
    IF target IS NULL THEN
        SELECT c.conninfo INTO conninfo FROM allsource.router_coordinator c;
    ELSE
        SELECT g.conninfo INTO conninfo FROM allsource.router_groups g WHERE g.group_id = target;
    END IF;
    IF conninfo IS NULL THEN
        RETURN NULL;
    END IF;
    -- The session's user and what he has set as his role are what nobody else can set for him. The current
    -- user is always the owner of these functions.
    IF target IS NOT NULL OR NOT allsource.link_names_user(conninfo) THEN
        conninfo := conninfo || ' user=' || allsource.link_quote(session_user);
        IF role IS NOT NULL THEN
            options := options || ' -c role=' || regexp_replace(role, '([\\\s])', '\\\1', 'g');
        END IF;
    END IF;
    RETURN conninfo || ' application_name=allsource_router target_session_attrs=read-write connect_timeout='
        || allsource.router_connect_timeout_s() || ' options=' || allsource.link_quote(options);
END
$$;
COMMENT ON FUNCTION allsource.router_conninfo IS 'how the caller connects to a group; NULL: to the coordinator';

CREATE FUNCTION allsource.router_open(target int4, may_fail bool) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name     CONSTANT text := allsource.router_name(target);
    conninfo CONSTANT text := allsource.router_conninfo(target);
    whom     CONSTANT text := COALESCE('group ' || target, 'the coordinator');
BEGIN
    -- And one to where the group was before.
    PERFORM allsource.link_close(c.other) FROM unnest(allsource.link_connections()) AS c (other)
      WHERE starts_with(c.other, regexp_replace(name, '[^ ]*$', ''));
    IF conninfo IS NULL THEN
        RAISE EXCEPTION '% is not known to this router', whom
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Call es_router_refresh(), as one who may see the groups on the coordinator.';
    END IF;
    PERFORM allsource.link_open(name, conninfo, whom);
    RETURN name;
EXCEPTION
    WHEN connection_failure THEN
        IF may_fail THEN
            RETURN NULL;
        END IF;
        RAISE;
END
$$;
COMMENT ON FUNCTION allsource.router_open IS 'opens the caller''s connection to a group, anew if there is one, and returns its name; NULL: it may fail, and did';

CREATE FUNCTION allsource.router_start(target int4, query text, may_fail bool) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := allsource.router_name(target);
BEGIN
    IF allsource.link_sent(name, query) THEN
        RETURN name;
    END IF;
    name := allsource.router_open(target, may_fail);
    IF allsource.link_send(name, query) = 1 THEN
        RETURN name;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION allsource.router_start IS 'sends a statement to a group on the caller''s connection, and returns its name; NULL: nothing was sent';

CREATE FUNCTION allsource.router_failure(name text, may_repeat bool) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM allsource.link_result(name) AS r (nothing text);
    RETURN 'lost';
EXCEPTION
    WHEN object_not_in_prerequisite_state THEN
        IF NOT may_repeat OR SQLERRM !~ '^partition [0-9]+ is not owned' THEN
            RAISE;
        END IF;
        RETURN 'moved';
    WHEN read_only_sql_transaction THEN
        IF NOT may_repeat THEN
            RAISE;
        END IF;
        RETURN 'read-only';
    WHEN connection_exception OR admin_shutdown OR crash_shutdown OR cannot_connect_now THEN
        RETURN 'lost';
END
$$;
COMMENT ON FUNCTION allsource.router_failure IS 'why there is no result: moved, read-only (of these nothing was done), lost (unknown); every other error is raised as it came';
