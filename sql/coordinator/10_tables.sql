-- The coordinator of a cluster: which groups there are, which of them owns which partition, and what is being moved.
-- The tables are empty in a database that is none. They are not dumped: es_group_add reads from the groups what
-- they own, so the map of a coordinator that was lost is made again from them.

CREATE TABLE allsource.cluster_groups (
    group_id int4 PRIMARY KEY CHECK (group_id BETWEEN 0 AND 4095),
    conninfo text COLLATE "C" NOT NULL,
    weight   int4 NOT NULL CHECK (weight BETWEEN 0 AND 1000),
    added_at timestamptz NOT NULL,
    joined_at timestamptz,
    database_id oid NOT NULL
) USING heap;

COMMENT ON TABLE allsource.cluster_groups IS 'on the coordinator, a row for each group; changed by es_group_add and es_group_remove';
COMMENT ON COLUMN allsource.cluster_groups.conninfo IS 'key=value pairs of libpq, without user and password: everybody connects as himself';
COMMENT ON COLUMN allsource.cluster_groups.weight IS 'its share of the partitions, compared with the others'' weights; 0: it is to have none';
COMMENT ON COLUMN allsource.cluster_groups.joined_at IS 'when it had confirmed that it is a member; NULL: es_group_add has to be repeated';
COMMENT ON COLUMN allsource.cluster_groups.database_id IS 'the coordinator''s database, by which a copy of it is known';

CREATE TRIGGER link_check_conninfo BEFORE INSERT OR UPDATE ON allsource.cluster_groups
    FOR EACH ROW EXECUTE FUNCTION allsource.link_check_conninfo();

CREATE TABLE allsource.cluster_map (
    partition_id int4 PRIMARY KEY CHECK (partition_id BETWEEN 0 AND 31),
    group_id     int4 NOT NULL,
    epoch        int8 NOT NULL CHECK (epoch > 0)
) USING heap;

COMMENT ON TABLE allsource.cluster_map IS 'on the coordinator, the owner of each partition; see the view partition_map';

CREATE TABLE allsource.partition_moves (
    partition_id     int4 NOT NULL CHECK (partition_id BETWEEN 0 AND 31),
    epoch            int8 NOT NULL CHECK (epoch > 1),
    source_id        int4 NOT NULL,
    target_id        int4 NOT NULL,
    phase            text COLLATE "C" NOT NULL,
    drained_lsn      pg_lsn,
    drained_position int8,
    fenced_lsn       pg_lsn,
    fenced_position  int8,
    setback          text COLLATE "C",
    started_by       text COLLATE "C" NOT NULL,
    started_at       timestamptz NOT NULL,
    looked_at        timestamptz NOT NULL,
    fence_began_at   timestamptz,
    fence_ended_at   timestamptz,
    ended_at         timestamptz,
    copied_runs      int8,
    copied_bytes     int8,
    lag_bytes        int8,
    error            text,
    PRIMARY KEY (partition_id, epoch)
) USING heap;

-- One move of a partition at a time.
CREATE UNIQUE INDEX partition_moves_under_way ON allsource.partition_moves (partition_id) WHERE ended_at IS NULL;

COMMENT ON TABLE allsource.partition_moves IS 'on the coordinator, all moves of partitions; see es_moves';
COMMENT ON COLUMN allsource.partition_moves.epoch IS 'that of the target if the move succeeds; the source has the one before, and gets the one after if the move goes back';
COMMENT ON COLUMN allsource.partition_moves.drained_lsn IS 'the end of the source''s WAL when it was compared before the fence';
COMMENT ON COLUMN allsource.partition_moves.fenced_lsn IS 'the end of the source''s WAL behind the fence';
COMMENT ON COLUMN allsource.partition_moves.setback IS 'why the move goes back';
COMMENT ON COLUMN allsource.partition_moves.started_by IS 'whose connections a process uses that carries the move on';
COMMENT ON COLUMN allsource.partition_moves.looked_at IS 'when somebody last carried the move on';

CREATE VIEW allsource.partition_map WITH (security_invoker = true) AS
SELECT m.partition_id,
       m.group_id,
       m.epoch,
       COALESCE('moving to group ' || v.target_id || ': ' || v.phase, 'owned') AS state
  FROM allsource.cluster_map m
  LEFT JOIN allsource.partition_moves v ON v.partition_id = m.partition_id AND v.ended_at IS NULL;

COMMENT ON VIEW allsource.partition_map IS 'on the coordinator: which group owns a partition, since which epoch, and whether it is being moved';
COMMENT ON COLUMN allsource.partition_map.state IS 'owned, or where the partition is being moved to and how far that has come';
