//! What the functions of a router need of the library beside [`link`](super::link). It is declared by the script
//! of the extension `allsource_router` only.

use crate::model::partition::Partition;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{bool, int4, int8};
use crate::pg::link::Outcome;
use crate::pg::router;
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

sql_function! {
    /// `router_owner_of(partition_id)`: the group that owns a partition by the map; NULL if it has none. Stable,
    /// parallel restricted.
    fn router_owner_of, pg_finfo_router_owner_of(call) {
        let partition = call.int4(0).and_then(Partition::new);
        let owner = partition.map(router::owner).transpose()?.flatten();
        Ok(owner.and_then(int4))
    }
}

sql_function! {
    /// `router_map_changed()`: the trigger of `routes`. Sessions read it again.
    fn router_map_changed, pg_finfo_router_map_changed(_call) {
        router::map_changed()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `router_name(group_id)`: the name of the caller's connection to a group; NULL: to the coordinator. Stable,
    /// parallel restricted.
    fn router_name, pg_finfo_router_name(call) {
        Ok(Some(text(router::connection(call.int4(0)).as_bytes())))
    }
}

sql_function! {
    /// `router_try(group_id, query, is_undoable, may_repeat)`: sends a statement to a group on the caller's
    /// connection, if that is open, and waits for the answer. Returns `unsent`, `answered`, `failed`: there is an
    /// error, or `silent`: there is nothing after `allsource.route_timeout`.
    ///
    /// Errors: 57014 the caller was cancelled; the connection is closed then. Volatile, strict, parallel unsafe.
    fn router_try, pg_finfo_router_try(call) {
        let (Some(group_id), Some(statement)) = (call.int4(0), call.datum(1)) else {
            return Ok(None);
        };
        let outcome = match router::ask(group_id, statement, call.bool(2), call.bool(3))? {
            Outcome::Unsent => "unsent",
            Outcome::Answered => "answered",
            Outcome::Failed => "failed",
            Outcome::Silent | Outcome::Cancelled(_) => "silent",
        };
        Ok(Some(text(outcome.as_bytes())))
    }
}
