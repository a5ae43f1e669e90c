-- Where the partitions are, as last learned from the coordinator.

CREATE TABLE allsource.routes (
    partition_id int4 PRIMARY KEY CHECK (partition_id BETWEEN 0 AND 31),
    group_id     int4 NOT NULL,
    epoch        int8 NOT NULL
) USING heap;
COMMENT ON TABLE allsource.routes IS 'the map as last learned: which group owns a partition';
COMMENT ON COLUMN allsource.routes.epoch IS 'grows with each owner; an older one never replaces a newer one';

CREATE TABLE allsource.router_groups (
    group_id int4 PRIMARY KEY CHECK (group_id >= 0),
    conninfo text COLLATE "C" NOT NULL
) USING heap;
COMMENT ON TABLE allsource.router_groups IS 'how to connect to the groups; only the owner sees it';
COMMENT ON COLUMN allsource.router_groups.conninfo IS 'key=value pairs of libpq, without user and password: everybody connects as himself';

CREATE TABLE allsource.router_coordinator (
    only_row bool NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
    conninfo text COLLATE "C" NOT NULL
) USING heap;
COMMENT ON TABLE allsource.router_coordinator IS 'one row: how to connect to the coordinator; only the owner sees it';
COMMENT ON COLUMN allsource.router_coordinator.conninfo IS 'key=value pairs of libpq, without password; with user the map is read as that one, else as whoever needs it';

SELECT pg_extension_config_dump('allsource.routes', '');
SELECT pg_extension_config_dump('allsource.router_groups', '');
SELECT pg_extension_config_dump('allsource.router_coordinator', '');

CREATE TRIGGER link_check_conninfo BEFORE INSERT OR UPDATE ON allsource.router_groups
    FOR EACH ROW EXECUTE FUNCTION allsource.link_check_conninfo();
CREATE TRIGGER link_check_conninfo BEFORE INSERT OR UPDATE ON allsource.router_coordinator
    FOR EACH ROW EXECUTE FUNCTION allsource.link_check_conninfo();

-- What sessions remember of these tables is read again.
CREATE TRIGGER router_map_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON allsource.routes
    FOR EACH STATEMENT EXECUTE FUNCTION allsource.router_map_changed();
CREATE TRIGGER router_map_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON allsource.router_groups
    FOR EACH STATEMENT EXECUTE FUNCTION allsource.router_map_changed();
CREATE TRIGGER router_map_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON allsource.router_coordinator
    FOR EACH STATEMENT EXECUTE FUNCTION allsource.router_map_changed();
ALTER TABLE allsource.routes ENABLE ALWAYS TRIGGER router_map_changed;
ALTER TABLE allsource.router_groups ENABLE ALWAYS TRIGGER router_map_changed;
ALTER TABLE allsource.router_coordinator ENABLE ALWAYS TRIGGER router_map_changed;
