-- What the router calls in C.

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
