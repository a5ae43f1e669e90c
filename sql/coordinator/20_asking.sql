-- Asking groups and nodes: side by side, as the session's user, with a limit of time. What was sent is never cancelled:
-- a member whose commit waits for a standby would then report success for what the standby does not have.

-- Whatever is set for the role or the database there: what is answered is durable, what has a long time to take has it, and
-- names are nobody else's.
CREATE FUNCTION allsource.node_conninfo(conninfo text, session_attrs text, settings text[] DEFAULT '{}') RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    all_settings text[] := ARRAY['client_min_messages=error', 'search_path=pg_catalog,pg_temp', 'synchronous_commit=on',
        'default_transaction_isolation=read committed', 'default_transaction_read_only=off', 'default_transaction_deferrable=off',
        'statement_timeout=0', 'idle_in_transaction_session_timeout=0', 'lock_timeout=10s'] || settings;
BEGIN
    IF current_setting('role') <> 'none' THEN
        all_settings := all_settings || ('role=' || current_setting('role'));
    END IF;
    RETURN format('%s user=%s target_session_attrs=%s application_name=allsource_coordinator connect_timeout=2 '
                  'keepalives_idle=5 keepalives_interval=2 keepalives_count=3 options=%s',
                  conninfo, allsource.link_quote(session_user), session_attrs,
                  allsource.link_quote((SELECT string_agg('-c ' || regexp_replace(s.setting, '([\\\s])', '\\\1', 'g'), ' ' ORDER BY s.i)
                                          FROM unnest(all_settings) WITH ORDINALITY AS s (setting, i))));
END
$$;
COMMENT ON FUNCTION allsource.node_conninfo IS 'how the caller connects to a group or a node';

CREATE TYPE allsource.node_answer AS (
    answer  jsonb,
    code    text,
    problem text
);
COMMENT ON TYPE allsource.node_answer IS 'what was answered, or the SQLSTATE and the text of what was not';

CREATE FUNCTION allsource.nodes_ask(
    whom       text[],
    conninfos  text[],
    queries    text[],
    timeout_ms int4
) RETURNS allsource.node_answer[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until   CONSTANT timestamptz := clock_timestamp() + interval '1 ms' * timeout_ms;
    names   text[] := '{}';
    answers allsource.node_answer[] := '{}';
    answer  allsource.node_answer;
    told    jsonb;
    code    text;
    problem text;
    detail  text;
    i       int4;
BEGIN
    FOR i IN 1 .. cardinality(whom) LOOP
        names[i] := allsource.link_name(whom[i]);
        BEGIN
            answer := (NULL, '08006', whom[i] || ' cannot be reached: there was no time left to ask it');
            IF until IS NULL OR clock_timestamp() < until THEN
                answer := NULL;
                IF NOT allsource.link_sent(names[i], queries[i]) THEN
                    PERFORM allsource.link_open(names[i], conninfos[i], whom[i]);
                    IF allsource.link_send(names[i], queries[i]) <> 1 THEN
                        answer := (NULL, '08006', whom[i] || ' cannot be reached: it has closed the connection');
                    END IF;
                END IF;
            END IF;
        EXCEPTION
            WHEN connection_exception OR invalid_authorization_specification THEN
                GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, problem = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
                answer := (NULL, code, concat_ws(': ', problem, NULLIF(detail, '')));
        END;
        answers[i] := answer;
    END LOOP;
    FOR i IN 1 .. cardinality(whom) LOOP
        answer := answers[i];
        CONTINUE WHEN answer.code IS NOT NULL;
        IF allsource.link_answered(names[i], until) THEN
            BEGIN
                SELECT r.told INTO told FROM allsource.link_result(names[i]) AS r (told jsonb);
                answer := CASE WHEN FOUND THEN (told, NULL, NULL)::allsource.node_answer
                               ELSE (NULL, '08006', whom[i] || ' has closed the connection')::allsource.node_answer END;
            EXCEPTION
                WHEN query_canceled OR OTHERS THEN
                    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, problem = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
                    answer := (NULL, code, concat_ws(': ', whom[i], problem, NULLIF(detail, '')));
            END;
        ELSE
            answer := (NULL, '08006', whom[i] || ' cannot be reached: it does not answer');
        END IF;
        IF answer.code ~ '^(08|57P)' THEN
            PERFORM allsource.link_close(names[i]);
        END IF;
        answers[i] := answer;
    END LOOP;
    RETURN answers;
EXCEPTION
    WHEN query_canceled THEN
        FOR i IN 1 .. cardinality(names) LOOP
            PERFORM allsource.link_close(names[i]);
        END LOOP;
        RAISE;
END
$$;
COMMENT ON FUNCTION allsource.nodes_ask IS 'asks several, side by side, each for one jsonb; timeout_ms NULL: without limit';

CREATE FUNCTION allsource.groups_ask(
    group_ids  int4[],
    queries    text[],
    timeout_ms int4
) RETURNS allsource.node_answer[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    whom      text[];
    conninfos text[];
BEGIN
    SELECT array_agg('group ' || a.id ORDER BY a.i), array_agg(allsource.node_conninfo(g.conninfo, 'read-write') ORDER BY a.i)
      INTO whom, conninfos
      FROM unnest(group_ids) WITH ORDINALITY AS a (id, i)
      LEFT JOIN allsource.cluster_groups g ON g.group_id = a.id;
    RETURN allsource.nodes_ask(whom, conninfos, queries, timeout_ms);
END
$$;
COMMENT ON FUNCTION allsource.groups_ask IS 'asks the primaries of several groups, side by side, each for one jsonb';

CREATE FUNCTION allsource.group_call(group_id int4, query text, timeout_ms int4) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answers CONSTANT allsource.node_answer[] := allsource.groups_ask(ARRAY[group_id], ARRAY[query], timeout_ms);
BEGIN
    IF answers[1].code IS NOT NULL THEN
        RAISE EXCEPTION '%', answers[1].problem USING ERRCODE = answers[1].code;
    END IF;
    RETURN answers[1].answer;
END
$$;
COMMENT ON FUNCTION allsource.group_call IS 'asks the primary of a group for one jsonb, and raises what it raises';

CREATE FUNCTION allsource.in_transaction() RETURNS bool
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'in_transaction';
COMMENT ON FUNCTION allsource.in_transaction IS 'whether the caller is in a transaction block or a subtransaction';

CREATE FUNCTION allsource.outside_transactions(what text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF allsource.in_transaction() THEN
        RAISE EXCEPTION '% cannot run inside a transaction block', what USING ERRCODE = 'active_sql_transaction';
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.outside_transactions IS 'refuses a procedure that commits in a transaction block';

-- Whatever is set where the caller comes from.
CREATE FUNCTION allsource.commit_durably() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.commit_durably IS 'makes the commit of this transaction wait until it is flushed, and confirmed by synchronous standbys';

-- Two databases with the same map would move the same partitions with the same epochs, and members could not tell them
-- apart.
CREATE FUNCTION allsource.check_coordinator() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM allsource.commit_durably();
    IF EXISTS (SELECT FROM allsource.cluster_groups g
                WHERE g.database_id <> (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())) THEN
        RAISE EXCEPTION 'this database is a copy of a coordinator'
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Use the database that it is a copy of.';
    END IF;
END
$$;
COMMENT ON FUNCTION allsource.check_coordinator IS 'refuses to change anything in a database that was copied from a coordinator';
