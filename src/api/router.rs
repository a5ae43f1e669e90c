//! What the functions of a router need of the library beside [`link`](super::link). It is declared by the script
//! of the extension `allsource_router` only.

use crate::pg::call::datum::text;
use crate::pg::call::rows::{int4, int8};
use crate::pg::link::Outcome;
use crate::pg::router::{self, Terms};
use crate::pg::settings;
use crate::sql_function;

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
    /// `router_map_changed()`: the trigger of `routes`, `router_groups` and `router_coordinator`. Sessions read them
    /// again.
    fn router_map_changed, pg_finfo_router_map_changed(_call) {
        router::map_changed()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `router_name(group_id)`: the name of the caller's connection to a group; NULL: to the coordinator. Stable,
    /// parallel restricted.
    fn router_name, pg_finfo_router_name(call) {
        Ok(Some(text(router::connection(call.int4(0))?.as_bytes())))
    }
}

sql_function! {
    /// `router_call(partition_ids, query, is_undoable, may_repeat, group_id)`: has a statement done by the owner of
    /// the partitions, or by a group, and returns the name of the connection that has its result.
    ///
    /// Errors: 25001 in a transaction that could undo it, 57014 the caller was cancelled, those of
    /// `router_call_again`. Volatile, parallel unsafe.
    fn router_call, pg_finfo_router_call(call) {
        let Some(statement) = call.datum(1) else { return Ok(None) };
        let terms = Terms { is_undoable: call.bool(2), may_repeat: call.bool(3) };
        router::check_transaction(terms)?;
        let group_id = match call.int4(4) {
            Some(group_id) => Some(group_id),
            None => router::owner_of_all(call.bytes(0))?,
        };
        let arguments = [0, 1, 2, 3, 4].map(|index| call.datum(index));
        let Some(group_id) = group_id.filter(|_| router::is_short(statement)) else {
            return router::ask_again(arguments, group_id, None, Outcome::Unsent.name());
        };
        let name = text(router::connection(Some(group_id))?.as_bytes());
        match router::ask(name, group_id, statement, terms)? {
            Outcome::Answered => Ok(Some(name)),
            other => router::ask_again(arguments, Some(group_id), Some(name), other.name()),
        }
    }
}

sql_function! {
    /// `router_try(name, group_id, query, is_undoable, may_repeat)`: sends a statement to a group on a connection,
    /// if that is open, and waits for the answer. Returns `unsent`, `answered`, `failed`: there is an error, or
    /// `silent`: there is nothing after `allsource.route_timeout`.
    ///
    /// Errors: 57014 the caller was cancelled; the connection is closed then. Volatile, strict, parallel unsafe.
    fn router_try, pg_finfo_router_try(call) {
        let (Some(name), Some(group_id), Some(statement)) =
            (call.datum(0), call.int4(1), call.datum(2))
        else {
            return Ok(None);
        };
        let terms = Terms { is_undoable: call.bool(3), may_repeat: call.bool(4) };
        Ok(Some(text(router::ask(name, group_id, statement, terms)?.name().as_bytes())))
    }
}
