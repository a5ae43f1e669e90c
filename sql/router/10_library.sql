-- What the router calls in C. Nobody but the owner may: through these functions a connection that belongs to
-- one user could be used by another.

DO $alone$
BEGIN
    IF EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'allsource') THEN
        RAISE EXCEPTION 'this database is a store and cannot be a router'
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    DETAIL = 'It has the extension allsource, whose functions have the same names.',
                    HINT = 'Make the router in a database of its own.';
    END IF;
END
$alone$;

-- The functions of dblink are bound here by the names in its library and not by those in SQL. The extension
-- dblink lets everybody use all connections of a session, and may be in any schema.
CREATE FUNCTION allsource.router_connections() RETURNS text[]
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS '$libdir/dblink', 'dblink_get_connections';
COMMENT ON FUNCTION allsource.router_connections IS 'names of the connections of this session; NULL if there are none';

CREATE FUNCTION allsource.router_connect(name text, conninfo text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS '$libdir/dblink', 'dblink_connect';
COMMENT ON FUNCTION allsource.router_connect IS 'opens a connection';

CREATE FUNCTION allsource.router_disconnect(name text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS '$libdir/dblink', 'dblink_disconnect';
COMMENT ON FUNCTION allsource.router_disconnect IS 'closes a connection; what was sent on it goes on';

-- What cannot be sent is sent on a new connection, so the NOTICE about it is of no use to the caller.
CREATE FUNCTION allsource.router_send(name text, query text) RETURNS int4
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
SET client_min_messages = warning
AS '$libdir/dblink', 'dblink_send_query';
COMMENT ON FUNCTION allsource.router_send IS 'sends a statement, and returns 1, or 0 if the connection cannot take one';

CREATE FUNCTION allsource.router_busy(name text) RETURNS int4
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS '$libdir/dblink', 'dblink_is_busy';
COMMENT ON FUNCTION allsource.router_busy IS 'takes what has come on a connection, and returns 1 as long as the answer is not complete';

CREATE FUNCTION allsource.router_error(name text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS '$libdir/dblink', 'dblink_error_message';
COMMENT ON FUNCTION allsource.router_error IS 'OK, or that the answer which has come is an error';

CREATE FUNCTION allsource.router_result(name text) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 100
AS '$libdir/dblink', 'dblink_get_result';
COMMENT ON FUNCTION allsource.router_result IS 'the rows of the answer that has come, or its error';

CREATE FUNCTION allsource.router_connecting() RETURNS bool
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'router_connecting';
COMMENT ON FUNCTION allsource.router_connecting IS 'is called before a connection is opened';

CREATE FUNCTION allsource.router_connected(name text) RETURNS bool
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'router_connected';
COMMENT ON FUNCTION allsource.router_connected IS 'is called when a connection was opened, so that router_wait knows it';

CREATE FUNCTION allsource.router_wait(name text, timeout_ms int4) RETURNS bool
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'router_wait';
COMMENT ON FUNCTION allsource.router_wait IS 'waits until something comes on a connection, for so long at most';

CREATE FUNCTION allsource.router_in_transaction() RETURNS bool
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'router_in_transaction';
COMMENT ON FUNCTION allsource.router_in_transaction IS 'whether the caller is in a transaction block or a subtransaction';

CREATE FUNCTION allsource.es_partition(stream_id text) RETURNS int4
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'es_partition';
COMMENT ON FUNCTION allsource.es_partition IS 'the partition of a stream, 0 to 31: XXH3-64 of the name''s bytes, modulo 32';

CREATE FUNCTION allsource.es_any() RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN NULL::int8;
COMMENT ON FUNCTION allsource.es_any IS 'expected_version: whatever the stream''s version is';

CREATE FUNCTION allsource.es_no_stream() RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 0::int8;
COMMENT ON FUNCTION allsource.es_no_stream IS 'expected_version: the stream has no events';

CREATE FUNCTION allsource.es_stream_exists() RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (-1)::int8;
COMMENT ON FUNCTION allsource.es_stream_exists IS 'expected_version: the stream exists';
