-- A member of a cluster: which group it is in, and what it knows of the partitions. No rows: a single
-- server, which owns all. They are not dumped: what is restored from a dump is a single server.

CREATE TABLE allsource.cluster_member (
    group_id  int4 NOT NULL CHECK (group_id BETWEEN 0 AND 4095),
    joined_at timestamptz NOT NULL
) USING heap;

CREATE UNIQUE INDEX cluster_member_only_row ON allsource.cluster_member ((true));

COMMENT ON TABLE allsource.cluster_member IS 'one row in a database that is a member of a cluster';
COMMENT ON COLUMN allsource.cluster_member.group_id IS 'its group: the setting allsource.node_id of all of its nodes';

CREATE TABLE allsource.partition_owners (
    partition_id  int4 PRIMARY KEY CHECK (partition_id BETWEEN 0 AND 31),
    group_id      int4 NOT NULL CHECK (group_id BETWEEN 0 AND 4095),
    epoch         int8 NOT NULL CHECK (epoch > 0),
    state         text COLLATE "C" NOT NULL CHECK (state IN ('owned', 'fenced', 'foreign')),
    is_closed     bool NOT NULL DEFAULT false,
    streams_above int8
) USING heap;

COMMENT ON TABLE allsource.partition_owners IS 'in a member of a cluster, a row for each partition; changed only by the functions es_member_*';
COMMENT ON COLUMN allsource.partition_owners.group_id IS 'the owner when this member last heard of it';
COMMENT ON COLUMN allsource.partition_owners.epoch IS 'grows with each change of hands';
COMMENT ON COLUMN allsource.partition_owners.state IS 'owned: written here; fenced: about to be moved, written by nobody; foreign: another group has it';

COMMENT ON COLUMN allsource.partition_owners.is_closed IS 'about to be fenced: no more events are enqueued';
COMMENT ON COLUMN allsource.partition_owners.streams_above IS 'if it is published for a move: streams created since have higher numbers';

CREATE FUNCTION allsource.cluster_changed() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'cluster_changed';

COMMENT ON FUNCTION allsource.cluster_changed IS 'trigger of cluster_member and partition_owners: what sessions remember of them is read again';

CREATE TRIGGER cluster_member_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON allsource.cluster_member
    FOR EACH STATEMENT EXECUTE FUNCTION allsource.cluster_changed();
ALTER TABLE allsource.cluster_member ENABLE ALWAYS TRIGGER cluster_member_changed;

CREATE TRIGGER partition_owners_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON allsource.partition_owners
    FOR EACH STATEMENT EXECUTE FUNCTION allsource.cluster_changed();
ALTER TABLE allsource.partition_owners ENABLE ALWAYS TRIGGER partition_owners_changed;

-- What a coordinator asks a member for.

CREATE FUNCTION allsource.es_member_join(
    group_id int4,
    owners   int4[],
    epochs   int8[]
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_join';

COMMENT ON FUNCTION allsource.es_member_join IS 'make this database a member of a group, given the owner and the epoch of each partition';

CREATE FUNCTION allsource.es_member_leave() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_leave';

COMMENT ON FUNCTION allsource.es_member_leave IS 'make this database a single server again';

CREATE FUNCTION allsource.es_member_status() RETURNS TABLE (
    group_id       int4,
    joined_at      timestamptz,
    node_id        int4,
    version        text,
    server_version text,
    is_standby     bool,
    lsn            pg_lsn,
    owned          int8,
    fenced         int8
)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT m.group_id,
           m.joined_at,
           current_setting('allsource.node_id')::int4,
           (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'allsource'),
           current_setting('server_version'),
           pg_is_in_recovery(),
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,
           (SELECT count(*) FROM allsource.partition_owners o WHERE o.state = 'owned'),
           (SELECT count(*) FROM allsource.partition_owners o WHERE o.state = 'fenced')
      FROM (VALUES (1)) AS one (n)
      LEFT JOIN allsource.cluster_member m ON true;
END;

COMMENT ON FUNCTION allsource.es_member_status IS 'one row about this node as a member of a cluster; group_id is NULL outside of one';

CREATE FUNCTION allsource.es_member_report(
    partition_id int4,
    epoch        int8
) RETURNS TABLE (
    group_id      int4,
    node_id       int4,
    state         text,
    owner_id      int4,
    owner_epoch   int8,
    is_published  bool,
    slot_lsn      pg_lsn,
    is_subscribed bool,
    is_copied     bool,
    is_hot        bool,
    is_enqueued   bool,
    is_waiting    bool,
    is_empty      bool,
    last_position int8,
    safe_position int8,
    counter       int8,
    lsn           pg_lsn,
    slot_name     text,
    streams_above int8
)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000 ROWS 1
AS 'MODULE_PATHNAME', 'es_member_report';

COMMENT ON FUNCTION allsource.es_member_report IS 'one row about a partition and a move, which is durable when the call''s transaction has committed';

CREATE FUNCTION allsource.es_member_summary(
    partition_id  int4,
    above         int8 DEFAULT 0,
    up_to         int8 DEFAULT NULL,
    with_streams  bool DEFAULT true,
    streams_above int8 DEFAULT NULL
) RETURNS TABLE (
    runs             int8,
    events           int8,
    runs_checksum    numeric,
    streams          int8,
    versions         int8,
    streams_checksum numeric
)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 1
AS 'MODULE_PATHNAME', 'es_member_summary';

COMMENT ON FUNCTION allsource.es_member_summary IS 'what two copies of a partition are compared by: its runs in a range of positions, and the heads of its streams';

CREATE FUNCTION allsource.es_member_receive(
    partition_id int4,
    epoch        int8,
    source       int4
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_receive';

COMMENT ON FUNCTION allsource.es_member_receive IS 'the target of a move begins to receive a partition';

CREATE FUNCTION allsource.es_member_publish(
    partition_id int4,
    epoch        int8
) RETURNS bool
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_publish';

COMMENT ON FUNCTION allsource.es_member_publish IS 'the source of a move publishes a partition; to be called again if it returns false';

CREATE FUNCTION allsource.es_member_subscribe(
    partition_id int4,
    epoch        int8,
    conninfo     text,
    slot_name    text
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_subscribe';

COMMENT ON FUNCTION allsource.es_member_subscribe IS 'the target of a move subscribes to what the source has published';

CREATE FUNCTION allsource.es_member_close(
    partition_id int4,
    epoch        int8
) RETURNS bool
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_close';

COMMENT ON FUNCTION allsource.es_member_close IS 'the source of a move takes no more enqueued events; to be called again until it returns true: all that were enqueued before are written';

CREATE FUNCTION allsource.es_member_fence(
    partition_id int4,
    epoch        int8
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_fence';

COMMENT ON FUNCTION allsource.es_member_fence IS 'the source of a move ends writing a partition, once those who are writing have finished';

CREATE FUNCTION allsource.es_member_raise_counter(
    partition_id int4,
    epoch        int8,
    above        int8
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_raise_counter';

COMMENT ON FUNCTION allsource.es_member_raise_counter IS 'the target of a move assigns positions above this one from now on';

CREATE FUNCTION allsource.es_member_give(
    partition_id int4,
    epoch        int8
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_give';

COMMENT ON FUNCTION allsource.es_member_give IS 'the target of a move owns the partition';

CREATE FUNCTION allsource.es_member_release(
    partition_id int4,
    epoch        int8,
    target       int4
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_release';

COMMENT ON FUNCTION allsource.es_member_release IS 'the source of a move learns that the target owns the partition';

CREATE FUNCTION allsource.es_member_refuse(
    partition_id int4,
    epoch        int8,
    source       int4
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_refuse';

COMMENT ON FUNCTION allsource.es_member_refuse IS 'the target of a move that goes back cannot be given the partition any more';

CREATE FUNCTION allsource.es_member_take_back(
    partition_id int4,
    epoch        int8
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_take_back';

COMMENT ON FUNCTION allsource.es_member_take_back IS 'the source of a move that goes back owns the partition again';

CREATE FUNCTION allsource.es_member_unsubscribe(
    partition_id int4,
    epoch        int8
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_unsubscribe';

COMMENT ON FUNCTION allsource.es_member_unsubscribe IS 'the target of a move drops the subscription';

CREATE FUNCTION allsource.es_member_unpublish(
    partition_id int4,
    epoch        int8
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_unpublish';

COMMENT ON FUNCTION allsource.es_member_unpublish IS 'the source of a move drops the publication and the slot';

CREATE FUNCTION allsource.es_member_empty(
    partition_id int4,
    epoch        int8
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_member_empty';

COMMENT ON FUNCTION allsource.es_member_empty IS 'the side of a move that has not got the partition empties its copy';
