-- What the router calls in C.

CREATE FUNCTION allsource.router_timeout_ms() RETURNS int4
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'router_timeout_ms';
COMMENT ON FUNCTION allsource.router_timeout_ms IS 'the setting allsource.route_timeout, in milliseconds';

CREATE FUNCTION allsource.router_retry_time_ms() RETURNS int4
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'router_retry_time_ms';
COMMENT ON FUNCTION allsource.router_retry_time_ms IS 'the setting allsource.route_retry_time, in milliseconds';

CREATE FUNCTION allsource.router_connect_timeout_s() RETURNS int4
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'router_connect_timeout_s';
COMMENT ON FUNCTION allsource.router_connect_timeout_s IS 'the setting allsource.route_connect_timeout, in seconds';

CREATE FUNCTION allsource.router_map_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'router_map_changed';
COMMENT ON FUNCTION allsource.router_map_changed IS 'trigger of routes, router_groups and router_coordinator: what sessions remember of them is read again';

CREATE FUNCTION allsource.router_name(group_id int4) RETURNS text
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'router_name';
COMMENT ON FUNCTION allsource.router_name IS 'the name of the caller''s connection to a group; NULL: to the coordinator';

CREATE FUNCTION allsource.router_try(name text, group_id int4, query text, is_undoable bool, may_repeat bool) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'router_try';
COMMENT ON FUNCTION allsource.router_try IS 'sends a statement to a group on a connection, if that is open, and waits for the answer; returns unsent, answered, failed or silent';

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
