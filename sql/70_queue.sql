-- Bulk ingestion: what is handed over to the workers, and what became of it.

CREATE TABLE allsource.dead_letters (
    id          int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    enqueued_at timestamptz NOT NULL,
    queue_epoch    int8 NOT NULL,
    queue_worker   int4 NOT NULL,
    queue_offset   int8 NOT NULL,
    sqlstate    text NOT NULL,
    reason      text NOT NULL,
    tenant_id   text COLLATE "C" NOT NULL,
    stream_id   text COLLATE "C" NOT NULL,
    entity_id   text COLLATE "C",
    event_type  text COLLATE "C" NOT NULL,
    payload     jsonb NOT NULL,
    metadata    jsonb,
    event_id    uuid
) USING heap;

CREATE INDEX dead_letters_queue ON allsource.dead_letters (queue_epoch, queue_worker, queue_offset);

COMMENT ON TABLE allsource.dead_letters IS 'enqueued events that could not be written to their streams, with the reason';
COMMENT ON COLUMN allsource.dead_letters.queue_epoch IS 'with queue_worker and queue_offset the record''s place in its queue, by which durable => true finds it';

CREATE TABLE allsource.waiting_events (
    id             int8 GENERATED ALWAYS AS IDENTITY,
    store_id       int8 NOT NULL,
    waiting_since  timestamptz NOT NULL DEFAULT clock_timestamp(),
    enqueued_at    timestamptz NOT NULL,
    queue_epoch    int8 NOT NULL,
    queue_worker   int4 NOT NULL,
    queue_offset   int8 NOT NULL,
    partition_id   int4 NOT NULL,
    size_bytes     int4 NOT NULL,
    stream_key     int8 NOT NULL,
    tenant_id      text COLLATE "C" NOT NULL,
    stream_id      text COLLATE "C" NOT NULL,
    entity_id      text COLLATE "C",
    event_type     text COLLATE "C" NOT NULL,
    payload        jsonb NOT NULL,
    metadata       jsonb,
    event_id       uuid,
    PRIMARY KEY (stream_key, id)
) USING heap;

CREATE INDEX waiting_events_place ON allsource.waiting_events (queue_epoch, queue_worker, queue_offset);

COMMENT ON TABLE allsource.waiting_events IS 'enqueued events whose streams or partitions could not be written when their turn came; the workers move them to their streams in the order of id';
COMMENT ON COLUMN allsource.waiting_events.queue_epoch IS 'with queue_worker and queue_offset the record''s place in its queue, by which durable => true finds it';
COMMENT ON COLUMN allsource.waiting_events.store_id IS 'the store that the event was enqueued in: a hash of server, database and extension; events that a dump has brought wait for es_adopt_waiting_events()';
COMMENT ON COLUMN allsource.waiting_events.size_bytes IS 'size of the event in the queue';
COMMENT ON COLUMN allsource.waiting_events.stream_key IS 'hash of stream_id and tenant_id';

CREATE TABLE allsource.safe_position (
    only_row      bool NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
    "position"    int8 NOT NULL DEFAULT 0,
    recorded_at   timestamptz
) USING heap WITH (fillfactor = 10);

INSERT INTO allsource.safe_position DEFAULT VALUES;

COMMENT ON TABLE allsource.safe_position IS 'one row: the safe position as a worker has recorded it about once a second, which is how far readers on a standby go';

-- The row of safe_position is made by CREATE EXTENSION, so only events are dumped.
SELECT pg_extension_config_dump('allsource.dead_letters', '');
SELECT pg_extension_config_dump('allsource.dead_letters_id_seq', '');
SELECT pg_extension_config_dump('allsource.waiting_events', '');
SELECT pg_extension_config_dump('allsource.waiting_events_id_seq', '');

CREATE FUNCTION allsource.es_enqueue(
    stream_id  text,
    event_type text,
    payload    jsonb,
    metadata   jsonb DEFAULT NULL,
    tenant_id  text DEFAULT 'default',
    entity_id  text DEFAULT NULL,
    event_id   uuid DEFAULT NULL,
    durable    bool DEFAULT false
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'es_enqueue';

COMMENT ON FUNCTION allsource.es_enqueue IS 'hand one event over to the workers; not transactional, and lost in a crash until es_flush or durable => true says that it is durable';

CREATE FUNCTION allsource.es_enqueue_batch(
    stream_ids  text[],
    event_types text[],
    payloads    jsonb[],
    metadata    jsonb[] DEFAULT NULL,
    tenant_id   text DEFAULT 'default',
    event_ids   uuid[] DEFAULT NULL,
    durable     bool DEFAULT false
) RETURNS int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_enqueue_batch';

COMMENT ON FUNCTION allsource.es_enqueue_batch IS 'hand events over to the workers, in the order of the arrays, and return how many; see es_enqueue';

CREATE FUNCTION allsource.es_flush(
    timeout interval DEFAULT '1 minute'
) RETURNS int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_flush';

COMMENT ON FUNCTION allsource.es_flush IS 'wait until everything that anybody has enqueued before is durable, and return how many events were on their way';

CREATE FUNCTION allsource.es_queue_stats() RETURNS TABLE (
    worker         int4,
    pid            int4,
    state          text,
    depth_events   int8,
    depth_bytes    int8,
    capacity_bytes int8,
    enqueued       int8,
    drained        int8,
    rejected       int8,
    full_waits     int8,
    batches        int8,
    largest_batch  int8,
    dead_letters   int8,
    discarded      int8,
    last_error     text,
    lag            interval,
    waiting_events  int8,
    waiting_streams int8,
    waiting_for     interval,
    held_up_by      text
)
LANGUAGE c VOLATILE PARALLEL SAFE COST 100 ROWS 2
AS 'MODULE_PATHNAME', 'es_queue_stats';

COMMENT ON FUNCTION allsource.es_queue_stats IS 'a row for each worker and its queue, counted since the server was started';

CREATE VIEW allsource.queue_stats WITH (security_invoker = true) AS SELECT * FROM allsource.es_queue_stats();

COMMENT ON VIEW allsource.queue_stats IS 'a row for each worker and its queue, counted since the server was started';
COMMENT ON COLUMN allsource.queue_stats.state IS 'stopped, idle, draining, backing off (after a failure), paused';
COMMENT ON COLUMN allsource.queue_stats.lag IS 'how long the oldest event that is not durable has waited';
COMMENT ON COLUMN allsource.queue_stats.waiting_events IS 'events in the table waiting_events, whose streams or partitions could not be written';
COMMENT ON COLUMN allsource.queue_stats.waiting_for IS 'how long ago the oldest of them was enqueued';
COMMENT ON COLUMN allsource.queue_stats.held_up_by IS 'what the last of them was found to wait for';
COMMENT ON COLUMN allsource.queue_stats.discarded IS 'events whose extension was dropped before they were written';

CREATE FUNCTION allsource.es_worker_pause() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'es_worker_pause';

COMMENT ON FUNCTION allsource.es_worker_pause IS 'tell the workers to rest, and wait until each has finished the batch in hand; lasts until es_worker_resume or a restart';

CREATE FUNCTION allsource.es_worker_resume() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'es_worker_resume';

COMMENT ON FUNCTION allsource.es_worker_resume IS 'tell the workers to go on';

CREATE FUNCTION allsource.es_adopt_waiting_events() RETURNS int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_adopt_waiting_events';

COMMENT ON FUNCTION allsource.es_adopt_waiting_events IS 'let the workers move waiting events that a restored dump has brought, once it is restored completely, and return how many there are';

CREATE FUNCTION allsource.es_dead_letters(
    after_id  int8 DEFAULT 0,
    max_count int8 DEFAULT 100
) RETURNS SETOF allsource.dead_letters
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
BEGIN ATOMIC
    SELECT d.*
      FROM allsource.dead_letters d
     WHERE d.id > after_id
     ORDER BY d.id
     LIMIT max_count;
END;

COMMENT ON FUNCTION allsource.es_dead_letters IS 'enqueued events that could not be written, oldest first; continue after the last id seen';

CREATE FUNCTION allsource.es_dead_letter_retry(id int8) RETURNS int8
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'es_dead_letter_retry';

COMMENT ON FUNCTION allsource.es_dead_letter_retry IS 'append the event of a dead letter to its stream, remove the letter, and return the event''s version';

CREATE FUNCTION allsource.es_dead_letter_discard(id int8) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'es_dead_letter_discard';

COMMENT ON FUNCTION allsource.es_dead_letter_discard IS 'remove a dead letter for good';
