-- Hot partitions.

CREATE FUNCTION allsource.es_heat(partition_id int4) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_heat';

COMMENT ON FUNCTION allsource.es_heat IS 'makes a partition hot: workers put its events into batches, which are settled later';

CREATE FUNCTION allsource.es_cool(
    partition_id int4,
    timeout      interval DEFAULT NULL
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_cool';

COMMENT ON FUNCTION allsource.es_cool IS 'settles what a partition holds, and returns when it is cold; timeout NULL: no limit';

CREATE FUNCTION allsource.es_settle(
    partition_id int4 DEFAULT NULL,
    timeout      interval DEFAULT '1 minute'
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_settle';

COMMENT ON FUNCTION allsource.es_settle IS 'settles what was flushed before the call, in a partition or in all; timeout NULL: no limit';
