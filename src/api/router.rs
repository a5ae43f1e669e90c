//! What the functions of a router need of the library beside [`link`](super::link). It is declared by the script
//! of the extension `allsource_router` only.

use crate::pg::call::rows::{bool, int4};
use crate::pg::session::xact::in_transaction_block;
use crate::pg::settings;
use crate::sql_function;

sql_function! {
    /// `router_refuses_transaction()`: whether the caller is in a transaction block or a subtransaction, so that
    /// what it does could be undone, and `allsource.route_in_transaction` is off. Volatile, parallel unsafe.
    fn router_refuses_transaction, pg_finfo_router_refuses_transaction(_call) {
        Ok(bool(in_transaction_block() && !settings::route_in_transaction()))
    }
}

sql_function! {
    /// `router_timeout_ms()`: `allsource.route_timeout`. Stable, parallel safe.
    fn router_timeout_ms, pg_finfo_router_timeout_ms(_call) {
        Ok(int4(settings::route_timeout_ms()))
    }
}

sql_function! {
    /// `router_retry_time_ms()`: `allsource.route_retry_time`. Stable, parallel safe.
    fn router_retry_time_ms, pg_finfo_router_retry_time_ms(_call) {
        Ok(int4(settings::route_retry_time_ms()))
    }
}

sql_function! {
    /// `router_connect_timeout_s()`: `allsource.route_connect_timeout`. Stable, parallel safe.
    fn router_connect_timeout_s, pg_finfo_router_connect_timeout_s(_call) {
        Ok(int4(settings::route_connect_timeout_s()))
    }
}
