-- The physical store: four tables with one leaf for each of the 32 partitions, and two sequences.
-- Columns of fixed width come first, so that a row has no padding and is quick to decode. The
-- access method is named: the store works below SQL, whatever default_table_access_method says.

CREATE TABLE allsource.event_streams (
    stream_no       int8 NOT NULL,
    current_version int8 NOT NULL,
    watermark       int8 NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    settled_batch   int8 NOT NULL DEFAULT 0,
    partition_id    int4 NOT NULL,
    settled_events  int4 NOT NULL DEFAULT 0,
    tenant_id       text COLLATE "C" NOT NULL,
    stream_id       text COLLATE "C" NOT NULL,
    entity_id       text COLLATE "C"
) PARTITION BY LIST (partition_id);

COMMENT ON TABLE allsource.event_streams IS 'one row per stream: its name, its number and its head';
COMMENT ON COLUMN allsource.event_streams.stream_no IS 'surrogate key: the partition, the node and a counter';
COMMENT ON COLUMN allsource.event_streams.current_version IS 'version of the newest event; 0 if the stream has none';
COMMENT ON COLUMN allsource.event_streams.watermark IS 'highest version up to which all events are settled, without a gap';
COMMENT ON COLUMN allsource.event_streams.settled_batch IS 'number of the last batch of hot_batches of which no event of the stream is unsettled';
COMMENT ON COLUMN allsource.event_streams.settled_events IS 'events of the stream that were settled and are still in hot_batches';

CREATE TABLE allsource.event_log (
    stream_no     int8 NOT NULL,
    first_version int8 NOT NULL,
    "position"    int8 NOT NULL,
    "timestamp"   timestamptz NOT NULL,
    partition_id  int4 NOT NULL,
    checksum      int4 NOT NULL,
    event_types   text[] COMPRESSION lz4 COLLATE "C" NOT NULL,
    payloads      jsonb[] COMPRESSION lz4 NOT NULL,
    metadata      jsonb[] COMPRESSION lz4,
    event_ids     uuid[],
    timestamps    timestamptz[] COMPRESSION lz4
) PARTITION BY LIST (partition_id);

-- MAIN: a run is compressed in line and leaves its row only when it cannot fit a page.
ALTER TABLE allsource.event_log
    ALTER COLUMN event_types SET STORAGE MAIN,
    ALTER COLUMN payloads SET STORAGE MAIN,
    ALTER COLUMN metadata SET STORAGE MAIN,
    ALTER COLUMN event_ids SET STORAGE MAIN,
    ALTER COLUMN timestamps SET STORAGE MAIN;

COMMENT ON TABLE allsource.event_log IS 'one row per run: consecutive events of one stream that were written together';
COMMENT ON COLUMN allsource.event_log.first_version IS 'version of the first event of the run';
COMMENT ON COLUMN allsource.event_log."position" IS 'position of the first event of the run; the others follow without a gap';
COMMENT ON COLUMN allsource.event_log."timestamp" IS 'time of the first event of the run, and of all of them unless timestamps is given';
COMMENT ON COLUMN allsource.event_log.timestamps IS 'time of each event of the run where they differ, else NULL';
COMMENT ON COLUMN allsource.event_log.checksum IS 'CRC-32C over the run, checked by es_verify';

CREATE TABLE allsource.event_ids (
    stream_no    int8 NOT NULL,
    version      int8 NOT NULL,
    partition_id int4 NOT NULL,
    event_id     uuid NOT NULL
) PARTITION BY LIST (partition_id);

COMMENT ON TABLE allsource.event_ids IS 'event ids given by callers, by which a retried append is recognized; events without an id are not in it';

CREATE TABLE allsource.hot_batches (
    batch_no     int8 NOT NULL,
    written_at   timestamptz NOT NULL,
    partition_id int4 NOT NULL,
    events       int4 NOT NULL,
    checksum     int4 NOT NULL,
    streams      bytea NOT NULL,
    body         bytea COMPRESSION lz4 NOT NULL
) PARTITION BY LIST (partition_id);

-- Hashes cannot be compressed, and readers look at all of them.
ALTER TABLE allsource.hot_batches ALTER COLUMN streams SET STORAGE EXTERNAL;

COMMENT ON TABLE allsource.hot_batches IS 'events of hot partitions that are not settled yet: one row for what a worker has drained at once';
COMMENT ON COLUMN allsource.hot_batches.batch_no IS 'number in its partition; grows, may skip numbers, never repeats';
COMMENT ON COLUMN allsource.hot_batches.checksum IS 'CRC-32C over partition, number and body, checked by es_verify';
COMMENT ON COLUMN allsource.hot_batches.streams IS 'hashes of the streams that have events in body, by which readers pass over a batch; with a checksum of their own';

CREATE TABLE allsource.hot_partitions (
    partition_id  int4 PRIMARY KEY CHECK (partition_id BETWEEN 0 AND 31),
    state         text COLLATE "C" NOT NULL CHECK (state IN ('hot', 'cooling', 'cold')),
    since         timestamptz NOT NULL,
    settled_batch int8 NOT NULL,
    store_id      int8 NOT NULL,
    is_automatic  bool NOT NULL
) USING heap;

COMMENT ON TABLE allsource.hot_partitions IS 'the partitions that are or were hot';
COMMENT ON COLUMN allsource.hot_partitions.settled_batch IS 'number of the last batch that is settled with all before it';
COMMENT ON COLUMN allsource.hot_partitions.is_automatic IS 'whether it became hot by itself (allsource.heat_threshold), and will become cold by itself';
COMMENT ON COLUMN allsource.hot_partitions.store_id IS 'the store that has made the partition hot: in a restored dump another one, and then nothing is settled until es_heat, es_cool or es_settle is called';

CREATE FUNCTION allsource.hot_partitions_changed() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'hot_partitions_changed';

COMMENT ON FUNCTION allsource.hot_partitions_changed IS 'trigger of hot_partitions: what sessions remember of it is read again';

CREATE TRIGGER hot_partitions_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON allsource.hot_partitions
    FOR EACH STATEMENT EXECUTE FUNCTION allsource.hot_partitions_changed();
ALTER TABLE allsource.hot_partitions ENABLE ALWAYS TRIGGER hot_partitions_changed;

SELECT pg_extension_config_dump('allsource.hot_partitions', '');

-- The leaves and their indexes. Unique indexes are on the leaves and not on the parents, where
-- they would have to contain partition_id. The store finds them by these names. The fill factor
-- leaves room for a second version of every stream's row, so that a batch that touches each of
-- them still updates in place.
DO $leaves$
DECLARE
    p int4;
    n text;
    t text;
    -- Rows live for seconds. Their places are to be used again soon, and no file is to be cut, for which
    -- a worker would have to wait.
    batches CONSTANT text := 'autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200, '
        'autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false, '
        'toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 2000, '
        'toast.autovacuum_vacuum_cost_delay = 0, toast.vacuum_truncate = false';
BEGIN
    FOR p IN SELECT generate_series(0, 31) LOOP
        n := lpad(p::text, 2, '0');
        EXECUTE format('CREATE TABLE allsource.event_streams_p%s PARTITION OF allsource.event_streams FOR VALUES IN (%s) USING heap WITH (fillfactor = 45)', n, p);
        EXECUTE format('ALTER TABLE allsource.event_streams_p%s ADD CONSTRAINT event_streams_p%s_stream_no PRIMARY KEY (stream_no), ADD CONSTRAINT event_streams_p%s_stream_id UNIQUE (stream_id, tenant_id)', n, n, n);
        EXECUTE format('CREATE TABLE allsource.event_log_p%s PARTITION OF allsource.event_log FOR VALUES IN (%s) USING heap', n, p);
        EXECUTE format('ALTER TABLE allsource.event_log_p%s ADD CONSTRAINT event_log_p%s_version PRIMARY KEY (stream_no, first_version), ADD CONSTRAINT event_log_p%s_position UNIQUE ("position")', n, n, n);
        EXECUTE format('CREATE TABLE allsource.event_ids_p%s PARTITION OF allsource.event_ids FOR VALUES IN (%s) USING heap', n, p);
        EXECUTE format('ALTER TABLE allsource.event_ids_p%s ADD CONSTRAINT event_ids_p%s_event_id PRIMARY KEY (stream_no, event_id)', n, n);
        EXECUTE format('CREATE TABLE allsource.hot_batches_p%s PARTITION OF allsource.hot_batches FOR VALUES IN (%s) USING heap WITH (' || batches || ')', n, p);
        EXECUTE format('ALTER TABLE allsource.hot_batches_p%s ADD CONSTRAINT hot_batches_p%s_batch_no PRIMARY KEY (batch_no)', n, n);
        FOREACH t IN ARRAY ARRAY['event_streams', 'event_log', 'event_ids', 'hot_batches'] LOOP
            PERFORM pg_extension_config_dump(format('allsource.%s_p%s', t, n)::regclass, '');
        END LOOP;
    END LOOP;
END
$leaves$;

CREATE SEQUENCE allsource.stream_no_seq AS int8;
COMMENT ON SEQUENCE allsource.stream_no_seq IS 'the counter part of stream_no';

CREATE SEQUENCE allsource.position_seq AS int8;
COMMENT ON SEQUENCE allsource.position_seq IS 'the highest position reserved so far; the counter itself is in shared memory';

SELECT pg_extension_config_dump('allsource.stream_no_seq', '');
SELECT pg_extension_config_dump('allsource.position_seq', '');
