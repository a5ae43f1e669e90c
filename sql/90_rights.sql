-- Who may do what. Nobody but the owner writes the tables directly.

REVOKE ALL ON SCHEMA allsource FROM PUBLIC;
GRANT USAGE ON SCHEMA allsource TO allsource_reader;

GRANT SELECT ON allsource.event_streams, allsource.event_log, allsource.event_ids,
                allsource.events, allsource.partition_stats,
                allsource.dead_letters, allsource.waiting_events, allsource.safe_position,
                allsource.queue_stats, allsource.metrics, allsource.hot_partitions_status,
                allsource.cluster_member, allsource.partition_owners
   TO allsource_reader;

-- What a subscription copies. Such a connection also needs LOGIN and REPLICATION, which are an administrator's
-- to give.
GRANT USAGE ON SCHEMA allsource TO allsource_replication;
DO $replication$
DECLARE
    leaf text;
BEGIN
    FOR leaf IN SELECT i.inhrelid::regclass::text
                  FROM pg_inherits i
                 WHERE i.inhparent IN ('allsource.event_streams'::regclass, 'allsource.event_log'::regclass, 'allsource.event_ids'::regclass)
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO allsource_replication', leaf);
    END LOOP;
END
$replication$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA allsource FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
      allsource.es_any(), allsource.es_no_stream(), allsource.es_stream_exists(),
      allsource.es_read, allsource.es_read_all, allsource.es_read_all_from,
      allsource.es_positions, allsource.es_safe_position,
      allsource.es_stream, allsource.es_streams, allsource.es_stream_watermark,
      allsource.es_partition, allsource.es_partition_stats(),
      allsource.es_verify, allsource.es_verify_gapless, allsource.es_run_checksum,
      allsource.es_queue_stats, allsource.es_dead_letters,
      allsource.es_hot_partitions, allsource.es_sidecar_stats,
      allsource.es_metrics, allsource.es_metrics_prometheus, allsource.es_health
   TO allsource_reader;

GRANT EXECUTE ON FUNCTION
      allsource.es_append, allsource.es_append_many, allsource.es_append_batch,
      allsource.es_create_stream,
      allsource.es_enqueue, allsource.es_enqueue_batch, allsource.es_flush
   TO allsource_writer;

GRANT EXECUTE ON FUNCTION
      allsource.es_worker_pause, allsource.es_worker_resume,
      allsource.es_adopt_waiting_events,
      allsource.es_heat, allsource.es_cool, allsource.es_settle,
      allsource.es_sidecar_rebuild, allsource.es_sidecar_checkpoint,
      allsource.es_dead_letter_retry, allsource.es_dead_letter_discard,
      allsource.es_member_join, allsource.es_member_leave, allsource.es_member_status,
      allsource.es_member_report, allsource.es_member_summary,
      allsource.es_member_receive, allsource.es_member_publish,
      allsource.es_member_subscribe, allsource.es_member_close,
      allsource.es_member_fence,
      allsource.es_member_raise_counter, allsource.es_member_give,
      allsource.es_member_release, allsource.es_member_refuse,
      allsource.es_member_take_back, allsource.es_member_unsubscribe,
      allsource.es_member_unpublish, allsource.es_member_empty
   TO allsource_admin;
