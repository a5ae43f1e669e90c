-- The coordinator of a cluster, as far as one server shows it: the first group is this database, on another connection.
-- What moves between servers is in the end-to-end tests.
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT format('host=%s port=%s dbname=%s', split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database()) AS here \gset

-- In a database that is no coordinator.
SELECT * FROM allsource.es_groups();
SELECT * FROM allsource.es_nodes();
SELECT * FROM allsource.es_moves();
SELECT * FROM allsource.es_rebalance_plan();
SELECT * FROM allsource.partition_map;
SELECT count(*) FROM allsource.es_health() WHERE name = 'cluster';
CALL allsource.es_rebalance();
CALL allsource.es_move_partition(1, 1);
SELECT allsource.es_move_cancel(1);
SELECT allsource.es_group_remove(1);

-- Arguments.
CALL allsource.es_group_add(NULL, :'here');
CALL allsource.es_group_add(0, NULL);
CALL allsource.es_group_add(-1, :'here');
CALL allsource.es_group_add(4096, :'here');
CALL allsource.es_group_add(0, :'here', -1);
CALL allsource.es_group_add(0, :'here', 1001);
CALL allsource.es_group_add(0, 'postgresql://db1/store');
CALL allsource.es_group_add(0, :'here' || ' password=secret');
CALL allsource.es_group_add(0, :'here' || ' user=postgres');
CALL allsource.es_group_add(0, :'here' || ' options=''-c role=postgres''');
CALL allsource.es_group_add(5, :'here');
CALL allsource.es_group_add(0, 'host=/nowhere dbname=store');
CALL allsource.es_move_partition(NULL, 0);
CALL allsource.es_move_partition(32, 0);
CALL allsource.es_rebalance(-1);
-- Nothing of it is left.
SELECT * FROM allsource.es_groups();
-- It commits, so it is no part of a transaction.
BEGIN;
CALL allsource.es_group_add(0, :'here');
ROLLBACK;
SELECT * FROM allsource.es_groups();

-- The first group owns everything.
CALL allsource.es_group_add(0, :'here');
SELECT group_id, weight, partitions, share, moving_here, moving_away, joined_at >= added_at AS joined FROM allsource.es_groups();
SELECT group_id, epoch, state, count(*) FROM allsource.partition_map GROUP BY 1, 2, 3;
SELECT group_id, state, epoch, count(*) FROM allsource.partition_owners GROUP BY 1, 2, 3;
SELECT allsource.es_append('of-a-member', 'noted', '{}') > 0 AS appended;
SELECT group_id, node LIKE '%:' || current_setting('port') AS named, role, is_reachable, is_synchronous, lag_bytes, node_id, error FROM allsource.es_nodes();
SELECT name, ok, detail FROM allsource.es_health() WHERE name = 'cluster';
-- Again, with another weight.
CALL allsource.es_group_add(0, :'here', 3);
SELECT weight, partitions, share FROM allsource.es_groups();
CALL allsource.es_move_partition(1, 7);
SET client_min_messages = notice;
CALL allsource.es_move_partition(1, 0);
SET client_min_messages = warning;
SELECT * FROM allsource.es_rebalance_plan();
CALL allsource.es_rebalance();
SELECT count(*) FROM allsource.es_moves();

-- What the decisions are made from, by hand: a plan for a second group, and what is wrong.
SELECT reason, count(*) FROM allsource.plan_moves('[{"group_id": 0, "weight": 1}, {"group_id": 1, "weight": 1}]',
       (SELECT json_agg(json_build_object('group_id', 0, 'is_moving', false)) FROM generate_series(0, 31))) GROUP BY 1;
SELECT allsource.plan_moves('[{"group_id": 0, "weight": 1}]', '[]');
SELECT allsource.move_next('{"phase": "lost"}', '{}');
SELECT allsource.move_cancelled('fenced'), allsource.move_cancelled('raised'), allsource.move_cancelled('given');
SELECT allsource.conninfo_values('host=a,b port=1 host=''c d,e'' port = 5', 'host'), allsource.conninfo_values('host=a,b port=1 port = 5', 'port');

-- Who may.
SET ROLE allsource_reader;
SELECT count(*) FROM allsource.partition_map;
SELECT name, ok FROM allsource.es_health() WHERE name = 'cluster';
SELECT * FROM allsource.es_groups();
CALL allsource.es_move_partition(1, 0);
CALL allsource.es_group_add(0, :'here');
SELECT conninfo FROM allsource.cluster_groups;
SET ROLE allsource_writer;
SELECT allsource.es_move_cancel(1);
SELECT allsource.move_step(1, 2, '{}');
SET ROLE allsource_admin;
SELECT partitions FROM allsource.es_groups();
SELECT * FROM allsource.group_call(0, 'SELECT 1', 1000);
INSERT INTO allsource.cluster_map VALUES (1, 1, 1);
RESET ROLE;

-- The tables were lost: the map is read from the group.
TRUNCATE allsource.cluster_groups, allsource.cluster_map;
CALL allsource.es_group_add(0, :'here');
SELECT group_id, epoch, count(*) FROM allsource.partition_map GROUP BY 1, 2;

-- The last group is a single server afterwards.
SELECT allsource.es_group_remove(0);
SELECT count(*) FROM allsource.partition_map;
SELECT count(*) FROM allsource.cluster_member;
SELECT allsource.es_append('of-a-member', 'noted', '{}') > 0 AS appended;
