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

CREATE FUNCTION allsource.es_sidecar_rebuild() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_sidecar_rebuild';

COMMENT ON FUNCTION allsource.es_sidecar_rebuild IS 'empties the sidecar of the hot partitions, which is then made anew from hot_batches';

CREATE FUNCTION allsource.es_sidecar_checkpoint(path text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_sidecar_checkpoint';

COMMENT ON FUNCTION allsource.es_sidecar_checkpoint IS 'copies the files of the sidecar, for diagnosis, into a directory of the server that does not exist yet; for superusers';

CREATE FUNCTION allsource.es_sidecar_stats() RETURNS TABLE (
    serving       bool,
    pid           int4,
    disk_bytes    int8,
    memory_bytes  int8,
    entries       int8,
    answers       int8,
    misses        int8,
    tails_found   int8,
    tails_missing int8,
    rebuilds      int8,
    last_error    text
)
LANGUAGE c VOLATILE PARALLEL SAFE COST 10 ROWS 1
AS 'MODULE_PATHNAME', 'es_sidecar_stats';

COMMENT ON FUNCTION allsource.es_sidecar_stats IS 'one row about the sidecar of the hot partitions and those who ask it, since the server was started';
