-- Reading.

CREATE FUNCTION allsource.es_read(
    stream_id    text,
    from_version int8 DEFAULT NULL,
    max_count    int8 DEFAULT NULL,
    backward     bool DEFAULT false,
    tenant_id    text DEFAULT 'default'
) RETURNS SETOF allsource.events
LANGUAGE c STABLE PARALLEL SAFE COST 100 ROWS 100
AS 'MODULE_PATHNAME', 'es_read';

COMMENT ON FUNCTION allsource.es_read IS 'events of one stream in the order of their versions; from_version NULL: from the first, or backward from the last';

CREATE FUNCTION allsource.es_read_all(
    after_position int8 DEFAULT 0,
    max_count      int8 DEFAULT 1000,
    partition_ids  int4[] DEFAULT NULL,
    event_types    text[] DEFAULT NULL,
    tenant_id      text DEFAULT NULL
) RETURNS SETOF allsource.events
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000 ROWS 1000
AS 'MODULE_PATHNAME', 'es_read_all';

COMMENT ON FUNCTION allsource.es_read_all IS 'events of all streams in the order of their positions, up to the safe position: continue after the last position seen and none is ever missed';

CREATE FUNCTION allsource.es_read_all_from(
    after_positions int8[],
    max_count       int8 DEFAULT 1000,
    partition_ids   int4[] DEFAULT NULL,
    event_types     text[] DEFAULT NULL,
    tenant_id       text DEFAULT NULL
) RETURNS SETOF allsource.events
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000 ROWS 1000
AS 'MODULE_PATHNAME', 'es_read_all_from';

COMMENT ON FUNCTION allsource.es_read_all_from IS 'the same with a position for each partition, NULL where it is not to be read; for readers that are to go on when partitions are spread over several servers';

CREATE FUNCTION allsource.es_positions() RETURNS int8[]
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10
AS 'MODULE_PATHNAME', 'es_positions';

COMMENT ON FUNCTION allsource.es_positions IS 'the present position of each partition, to begin with in es_read_all_from';

CREATE FUNCTION allsource.es_safe_position() RETURNS int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10
AS 'MODULE_PATHNAME', 'es_safe_position';

COMMENT ON FUNCTION allsource.es_safe_position IS 'the highest position at or below which no event can still appear';
