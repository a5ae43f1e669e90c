-- Connections to groups, for routers and the coordinator: the extensions allsource_router and allsource have this
-- folder in common. Nobody but the owner may call what is here: through these functions a connection that belongs
-- to one user could be used by another.

-- Those of dblink are called by the library, which looks for that of dblink when one of them is called first.

CREATE FUNCTION allsource.link_connections() RETURNS text[]
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'link_connections';
COMMENT ON FUNCTION allsource.link_connections IS 'names of the connections of this session; NULL if there are none';

CREATE FUNCTION allsource.link_connect(name text, conninfo text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'link_connect';
COMMENT ON FUNCTION allsource.link_connect IS 'opens a connection';

CREATE FUNCTION allsource.link_disconnect(name text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'link_disconnect';
COMMENT ON FUNCTION allsource.link_disconnect IS 'closes a connection; what was sent on it goes on';

-- What cannot be sent is sent on a new connection, so the NOTICE about it is of no use to the caller.
CREATE FUNCTION allsource.link_send(name text, query text) RETURNS int4
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
SET client_min_messages = warning
AS 'MODULE_PATHNAME', 'link_send';
COMMENT ON FUNCTION allsource.link_send IS 'sends a statement, and returns 1, or 0 if the connection cannot take one';

CREATE FUNCTION allsource.link_busy(name text) RETURNS int4
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'link_busy';
COMMENT ON FUNCTION allsource.link_busy IS 'takes what has come on a connection, and returns 1 as long as the answer is not complete';

CREATE FUNCTION allsource.link_error(name text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'link_error';
COMMENT ON FUNCTION allsource.link_error IS 'OK, or that the answer which has come is an error';

CREATE FUNCTION allsource.link_result(name text) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'link_result';
COMMENT ON FUNCTION allsource.link_result IS 'the rows of the answer that has come, or its error';

CREATE FUNCTION allsource.link_wait(name text, timeout_ms int4) RETURNS bool
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'link_wait';
COMMENT ON FUNCTION allsource.link_wait IS 'waits until something comes on a connection, for so long at most';
