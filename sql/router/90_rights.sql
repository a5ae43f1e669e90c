-- Who may do what, as on a store. What begins with router_ is for the functions of the router only, which run as its owner.

REVOKE ALL ON SCHEMA allsource FROM PUBLIC;
GRANT USAGE ON SCHEMA allsource TO allsource_reader;

GRANT SELECT ON allsource.routes, allsource.partition_stats, allsource.metrics TO allsource_reader;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA allsource FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
      allsource.es_any(), allsource.es_no_stream(), allsource.es_stream_exists(),
      allsource.es_read, allsource.es_read_all, allsource.es_read_all_from,
      allsource.es_positions, allsource.es_safe_position,
      allsource.es_stream, allsource.es_streams, allsource.es_stream_watermark,
      allsource.es_partition, allsource.es_partition_stats(), allsource.router_partition_stats(),
      allsource.es_verify, allsource.es_verify_gapless,
      allsource.es_dead_letters,
      allsource.es_metrics, allsource.es_metrics_prometheus, allsource.es_health
   TO allsource_reader;

GRANT EXECUTE ON FUNCTION
      allsource.es_append, allsource.es_append_many, allsource.es_append_batch,
      allsource.es_create_stream,
      allsource.es_enqueue, allsource.es_enqueue_batch, allsource.es_flush
   TO allsource_writer;

GRANT EXECUTE ON FUNCTION
      allsource.es_router_refresh,
      allsource.es_dead_letter_retry, allsource.es_dead_letter_discard
   TO allsource_admin;
