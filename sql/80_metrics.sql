-- Metrics and health.

CREATE FUNCTION allsource.es_metrics() RETURNS TABLE (
    name   text,
    labels jsonb,
    value  float8
)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000 ROWS 250
AS 'MODULE_PATHNAME', 'es_metrics';

COMMENT ON FUNCTION allsource.es_metrics IS 'a row for each number that is counted or measured, with its labels; NaN if there is none yet';

CREATE VIEW allsource.metrics WITH (security_invoker = true) AS SELECT * FROM allsource.es_metrics();

COMMENT ON VIEW allsource.metrics IS 'a row for each number that is counted or measured, with its labels; NaN if there is none yet';

CREATE FUNCTION allsource.es_metrics_prometheus() RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_metrics_prometheus';

COMMENT ON FUNCTION allsource.es_metrics_prometheus IS 'the metrics in the text format of Prometheus';

CREATE FUNCTION allsource.server_health() RETURNS TABLE (
    name   text,
    ok     bool,
    detail text
)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000 ROWS 9
AS 'MODULE_PATHNAME', 'server_health';

COMMENT ON FUNCTION allsource.server_health IS 'the rows of es_health about this server';
