-- What the server has to tell to those who watch over it.

CREATE FUNCTION allsource.es_metrics() RETURNS TABLE (
    name   pg_catalog.text,
    labels pg_catalog.jsonb,
    value  pg_catalog.float8
)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000 ROWS 250
AS 'MODULE_PATHNAME', 'es_metrics';

COMMENT ON FUNCTION allsource.es_metrics IS 'every number that is counted or measured, with its labels; NaN where there is none yet';

CREATE VIEW allsource.metrics WITH (security_invoker = true) AS SELECT * FROM allsource.es_metrics();

COMMENT ON VIEW allsource.metrics IS 'every number that is counted or measured, with its labels; NaN where there is none yet';

CREATE FUNCTION allsource.es_metrics_prometheus() RETURNS pg_catalog.text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'es_metrics_prometheus';

COMMENT ON FUNCTION allsource.es_metrics_prometheus IS 'the metrics as text that Prometheus reads';

CREATE FUNCTION allsource.es_health() RETURNS TABLE (
    name   pg_catalog.text,
    ok     pg_catalog.bool,
    detail pg_catalog.text
)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000 ROWS 6
AS 'MODULE_PATHNAME', 'es_health';

COMMENT ON FUNCTION allsource.es_health IS 'a row for each check: what was checked, whether it is well, and the facts';
