//! What the functions of a router need of the library. They are declared by the script of the extension
//! `allsource_router` only, and work without shared memory.

use crate::pg::call::rows::bool;
use crate::pg::router;
use crate::sql_function;
use std::time::Duration;

sql_function! {
    /// `router_in_transaction()`: whether the caller is in a transaction block or a subtransaction, so that what
    /// it does could be undone. Volatile, parallel unsafe.
    fn router_in_transaction, pg_finfo_router_in_transaction(_call) {
        Ok(bool(router::in_transaction_block()))
    }
}

sql_function! {
    /// `router_connecting()`: is called before a connection is made. Volatile, parallel unsafe.
    fn router_connecting, pg_finfo_router_connecting(_call) {
        router::connecting();
        Ok(bool(true))
    }
}

sql_function! {
    /// `router_connected(name)`: is called after the connection of this name was made. Volatile, strict,
    /// parallel unsafe.
    fn router_connected, pg_finfo_router_connected(call) {
        router::connected(call.bytes(0).unwrap_or_default());
        Ok(bool(true))
    }
}

sql_function! {
    /// `router_wait(name, timeout_ms)`: returns when something has come on the connection of this name, or after
    /// that time, or earlier.
    ///
    /// Errors: 57014 cancelled. Volatile, strict, parallel unsafe.
    fn router_wait, pg_finfo_router_wait(call) {
        let longest_ms = u64::try_from(call.int4(1).unwrap_or_default()).unwrap_or_default();
        router::wait(call.bytes(0).unwrap_or_default(), Duration::from_millis(longest_ms));
        Ok(bool(true))
    }
}
