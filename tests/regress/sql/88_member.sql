-- A member of a cluster: what it writes and reads, and what a coordinator asks it for. In a database of its
-- own, which is of group 0: that is allsource.node_id.
\getenv folder PG_ABS_SRCDIR
\set ECHO none
SELECT current_database() AS own \gset
CREATE DATABASE allsource_member;
\c allsource_member
SET client_min_messages = error;
CREATE EXTENSION allsource;
RESET client_min_messages;
\i :folder/helpers.sql
\set ECHO all
\pset footer off
SET search_path TO allsource, public;
-- A stream of a partition.
CREATE FUNCTION pg_temp.stream(partition int4) RETURNS text
RETURN (SELECT 'm/' || n FROM generate_series(1, 1000) AS n WHERE allsource.es_partition('m/' || n) = partition LIMIT 1);
SELECT pg_temp.stream(0) AS p0, pg_temp.stream(1) AS p1, pg_temp.stream(2) AS p2, pg_temp.stream(3) AS p3 \gset

-- A single server.
SELECT group_id, joined_at, node_id, version, is_standby, lsn > '0/0' AS lsn, owned, fenced FROM es_member_status();
SELECT es_append(:'p1', 't', '1'), es_append(:'p2', 't', '1');
SELECT pg_temp.outcome($$SELECT allsource.es_member_leave()$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_report(0, 1)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(0, 1)$$);

-- It joins with the coordinator's map.
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(NULL, array_fill(0, '{32}'), array_fill(1::int8, '{32}'))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(4096, array_fill(0, '{32}'), array_fill(1::int8, '{32}'))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(0, NULL, array_fill(1::int8, '{32}'))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(0, array_fill(0, '{31}'), array_fill(1::int8, '{32}'))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(0, array_fill(NULL::int4, '{32}'), array_fill(1::int8, '{32}'))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(0, array_fill(-1, '{32}'), array_fill(1::int8, '{32}'))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(0, array_fill(0, '{32}'), array_fill(0::int8, '{32}'))$$);
-- Its nodes must have the group's number, and what others own must not be here.
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(7, array_fill(0, '{32}'), array_fill(1::int8, '{32}'))$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_join(0, '{0,0}' || array_fill(7, '{30}'), array_fill(1::int8, '{32}'))$$);
SELECT count(*) FROM partition_owners;
TRUNCATE event_streams_p02, event_log_p02;
SELECT es_member_join(0, '{0,0}' || array_fill(7, '{30}'), '{1,4,3}' || array_fill(1::int8, '{29}'));
SELECT * FROM partition_owners WHERE partition_id < 4 ORDER BY 1;
-- Again: it is one already. Not of another group.
SELECT es_member_join(0, array_fill(0, '{32}'), array_fill(1::int8, '{32}'));
SELECT group_id, joined_at <= now() AS joined_at, node_id, owned, fenced FROM es_member_status();

-- It writes what it owns, and nothing else.
SELECT es_append(:'p0', 't', '1'), es_append(:'p1', 't', '2');
SELECT pg_temp.stored() AS stored \gset
SELECT pg_temp.outcome(format($$SELECT allsource.es_append(%L, 't', '1')$$, :'p2'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_append_many(%L, '{t}', '{1}')$$, :'p2'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_append_batch(ARRAY[%L, %L], '{t,t}', '{1,2}')$$, :'p1', :'p3'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_create_stream(%L)$$, :'p2'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_enqueue(%L, 't', '1')$$, :'p2'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_enqueue_batch(ARRAY[%L, %L], '{t,t}', '{1,2}')$$, :'p1', :'p2'));
INSERT INTO dead_letters (enqueued_at, queue_epoch, queue_worker, queue_offset, sqlstate, reason, tenant_id, stream_id, event_type, payload)
VALUES (now(), 0, 0, 0, 'XX000', 'none', 'default', :'p2', 't', '1');
SELECT pg_temp.outcome($$SELECT allsource.es_dead_letter_retry(max(id)) FROM allsource.dead_letters$$);
SELECT count(*) FROM dead_letters;
SELECT pg_temp.stored() = :'stored' AS nothing_was_written;

-- It shows what it has of its own. There is no order of all positions.
SELECT pg_temp.outcome(format($$SELECT * FROM allsource.es_read(%L)$$, :'p2'));
SELECT pg_temp.outcome(format($$SELECT * FROM allsource.es_stream(%L)$$, :'p2'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_stream_watermark(%L)$$, :'p2'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_verify_gapless(%L)$$, :'p2'));
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_streams(2)$$);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all(0)$$);
SELECT version, payload FROM es_read(:'p1');
SELECT partition_id, version, payload FROM es_read_all_from(array_fill(0::int8, '{32}'));
SELECT partition_id, version, payload FROM es_read_all_from(array_fill(0::int8, '{32}'), partition_ids => '{1}');
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_read_all_from(array_fill(0::int8, '{32}'), partition_ids => '{1,2}')$$);
SELECT array_agg(n - 1) AS has_position FROM unnest(es_positions()) WITH ORDINALITY AS p (position, n) WHERE position >= 3;
SELECT * FROM es_verify();

-- Numbers that a request cannot have.
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(32, 2)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(0, NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(0, 0)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_receive(2, 4, NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_release(0, 2, 4096)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_raise_counter(2, 4, NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_subscribe(2, 4, NULL, 's')$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_subscribe(2, 4, 'dbname=none', NULL)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_close(0, NULL)$$);

-- The source of a move takes no more enqueued events; what is appended goes on. Nothing was enqueued here.
SELECT pg_temp.outcome($$SELECT allsource.es_member_close(0, 3)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_close(2, 4)$$);
SELECT es_member_close(0, 2);
SELECT es_member_close(0, 2);
SELECT * FROM partition_owners WHERE partition_id = 0;
SELECT pg_temp.outcome(format($$SELECT allsource.es_enqueue(%L, 't', '2')$$, :'p0'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_enqueue_batch(ARRAY[%L, %L], '{t,t}', '{1,2}')$$, :'p1', :'p0'));
SELECT es_append(:'p0', 't', '"b"');
-- The source of a move that goes back: fenced, and its own again with another epoch.
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(0, 3)$$);
SELECT es_member_fence(0, 2), es_member_fence(0, 2);
SELECT pg_temp.outcome(format($$SELECT allsource.es_append(%L, 't', '2')$$, :'p0'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_enqueue(%L, 't', '2')$$, :'p0'));
SELECT version, payload FROM es_read(:'p0');
SELECT array_agg(n - 1) AS has_position FROM unnest(es_positions()) WITH ORDINALITY AS p (position, n) WHERE position >= 3;
SELECT partition_id, version FROM es_read_all_from(array_fill(0::int8, '{32}'), partition_ids => '{0}');
SELECT pg_temp.outcome($$SELECT allsource.es_member_empty(0, 2)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_unpublish(0, 2)$$);
SELECT es_member_take_back(0, 2), es_member_take_back(0, 2);
SELECT * FROM partition_owners WHERE partition_id = 0;
SELECT es_append(:'p0', 't', '2');
-- A request of that move comes late.
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(0, 2)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_release(0, 2, 7)$$);
SELECT es_member_unpublish(0, 2);

-- The source of a move that goes on.
SELECT es_member_fence(0, 4), es_member_release(0, 4, 7), es_member_release(0, 4, 7);
SELECT pg_temp.outcome(format($$SELECT allsource.es_append(%L, 't', '3')$$, :'p0'));
SELECT pg_temp.outcome(format($$SELECT * FROM allsource.es_read(%L)$$, :'p0'));
SELECT pg_temp.outcome($$SELECT allsource.es_member_take_back(0, 4)$$);
SELECT runs, events, streams, versions FROM es_member_summary(0);
SELECT es_member_empty(0, 4);
SELECT runs, events, runs_checksum, streams, versions, streams_checksum FROM es_member_summary(0);

-- The target of a move.
INSERT INTO event_ids SELECT 1, 1, 2, gen_random_uuid();
SELECT pg_temp.outcome($$SELECT allsource.es_member_give(2, 4)$$);
SELECT is_empty FROM es_member_report(2, 4);
SELECT es_member_receive(2, 4, 7);
SELECT group_id, node_id, state, owner_id, owner_epoch, is_published, slot_lsn, slot_name, streams_above, is_subscribed, is_copied, is_hot, is_enqueued, is_waiting, is_empty,
       last_position, safe_position < 1000 AS safe_position, counter < 1000 AS counter, lsn > '0/0' AS lsn
  FROM es_member_report(2, 4);
SELECT pg_temp.outcome($$SELECT allsource.es_member_unsubscribe(2, 4)$$);
SELECT es_member_raise_counter(2, 4, 1000), es_member_raise_counter(2, 4, 10);
SELECT counter FROM es_member_report(2, 4);
SELECT es_member_give(2, 4), es_member_give(2, 4), es_member_unsubscribe(2, 4);
SELECT pg_temp.outcome($$SELECT allsource.es_member_refuse(2, 4, 7)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_receive(2, 5, 7)$$);
SELECT es_append(:'p2', 't', '1');
SELECT partition_id, position FROM es_read_all_from(array_fill(0::int8, '{32}'), partition_ids => '{2}');
SELECT last_position, counter, safe_position FROM es_member_report(2, 4);
-- Of one that goes back.
SELECT es_member_receive(0, 5, 7), es_member_refuse(0, 5, 7), es_member_refuse(0, 5, 7), es_member_empty(0, 5);
SELECT pg_temp.outcome($$SELECT allsource.es_member_give(0, 5)$$);

-- Copying needs more WAL than this server writes, and a transaction of its own.
SELECT pg_temp.outcome($$SELECT allsource.es_member_publish(2, 7)$$);
SELECT es_member_publish(1, 5);
SELECT pg_temp.outcome($$SELECT allsource.es_member_publish(1, 5)$$);
SELECT is_published, slot_lsn, slot_name, streams_above & ((1::int8 << 46) - 1) = last_value AS streams_above
  FROM es_member_report(1, 5), stream_no_seq;
SELECT es_member_take_back(1, 5), es_member_unpublish(1, 5);
SELECT count(*) FROM pg_publication;

-- The fence waits until there is nothing to settle.
INSERT INTO hot_partitions VALUES (1, 'hot', now(), 0, 0, false);
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(1, 7)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_close(1, 7)$$);
SELECT is_hot, is_waiting FROM es_member_report(1, 7);
DELETE FROM hot_partitions;
INSERT INTO waiting_events (store_id, enqueued_at, queue_epoch, queue_worker, queue_offset, partition_id, size_bytes, stream_key, tenant_id, stream_id, event_type, payload)
VALUES (0, now(), 0, 0, 0, 1, 0, 0, 'default', :'p1', 't', '1');
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(1, 7)$$);
SELECT is_hot, is_waiting FROM es_member_report(1, 7);
DELETE FROM waiting_events;
-- Both bounds, and both ways to look at heads.
SELECT runs, events, streams, versions FROM es_member_summary(1, 1, 100000);
SELECT runs, events, streams, versions FROM es_member_summary(1, 1);
SELECT runs, events, streams, versions FROM es_member_summary(1, with_streams => false);
SELECT pg_temp.outcome($$SELECT * FROM allsource.es_member_summary(32)$$);
SELECT * FROM partition_owners WHERE partition_id = 1;

-- A node that has not its group's number writes nothing.
UPDATE cluster_member SET group_id = 9;
SELECT pg_temp.outcome(format($$SELECT allsource.es_append(%L, 't', '3')$$, :'p1'));
SELECT version FROM es_read(:'p1');
UPDATE cluster_member SET group_id = 0;
-- Nor does one that was not told about a partition.
DELETE FROM partition_owners WHERE partition_id = 2;
SELECT pg_temp.outcome(format($$SELECT allsource.es_append(%L, 't', '3')$$, :'p2'));
SELECT pg_temp.outcome(format($$SELECT allsource.es_read(%L)$$, :'p2'));
INSERT INTO partition_owners VALUES (2, 0, 4, 'owned');

-- Rights.
SET ROLE allsource_writer;
SELECT count(*) FROM partition_owners;
SELECT group_id FROM cluster_member;
SELECT pg_temp.outcome($$UPDATE allsource.partition_owners SET state = 'owned'$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_close(1, 7)$$);
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(1, 7)$$);
RESET ROLE;
SET ROLE allsource_admin;
SELECT group_id, owned FROM es_member_status();
SELECT es_member_fence(1, 7), es_member_take_back(1, 7);
BEGIN READ ONLY;
SELECT pg_temp.outcome($$SELECT allsource.es_member_fence(1, 9)$$);
ROLLBACK;
RESET ROLE;

-- It leaves with all partitions, or none.
SELECT pg_temp.outcome($$SELECT allsource.es_member_leave()$$);
UPDATE partition_owners SET group_id = 0, state = 'owned';
SELECT es_member_leave();
SELECT partition_id, version, payload FROM es_read_all(0);
SELECT es_append(:'p3', 't', '1');
SELECT array_agg(DISTINCT position >= 1001) AS positions FROM unnest(es_positions()) AS position;

\c :own
DROP DATABASE allsource_member;
