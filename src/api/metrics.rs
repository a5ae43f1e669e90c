//! Metrics and health: `es_metrics`, `es_metrics_prometheus`, and what `es_health` says of the server.

use crate::metrics::text::render;
use crate::pg::call::datum::{jsonb, text};
use crate::pg::call::rows::{Rows, bool, float8};
use crate::pg::watch::health::checks;
use crate::pg::watch::samples::all;
use crate::sql_function;

sql_function! {
    /// `es_metrics()`: a row for each number: name, labels, value. NaN if there is none yet.
    ///
    /// Errors: 55000 not preloaded. Volatile, parallel unsafe.
    fn es_metrics, pg_finfo_es_metrics(call) {
        let mut rows = Rows::begin(call);
        for sample in all()? {
            let labels = jsonb(&sample.labels_json().to_string())?;
            rows.put([Some(text(sample.name.as_bytes())), Some(labels), float8(sample.value)])?;
        }
        Ok(None)
    }
}

sql_function! {
    /// `es_metrics_prometheus()`: the same in the text format of Prometheus.
    ///
    /// Errors: 55000 not preloaded. Volatile, parallel unsafe.
    fn es_metrics_prometheus, pg_finfo_es_metrics_prometheus(_call) {
        Ok(Some(text(render(&all()?).as_bytes())))
    }
}

sql_function! {
    /// `server_health()`: the rows of `es_health` about this server, one for each check: name, whether it is ok, the facts.
    ///
    /// Volatile, parallel unsafe.
    fn server_health, pg_finfo_server_health(call) {
        let mut rows = Rows::begin(call);
        for check in checks()? {
            rows.put([
                Some(text(check.name.as_bytes())),
                bool(check.ok),
                Some(text(check.detail.as_bytes())),
            ])?;
        }
        Ok(None)
    }
}
