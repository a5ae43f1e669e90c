//! Connections to groups, for routers and the coordinator: the functions of `dblink`, and how to wait for what
//! comes on a connection. The scripts of both extensions declare them, for their own use only. They work
//! without shared memory.

use crate::pg::call::rows::bool;
use crate::pg::link;
use crate::sql_function;
use std::time::Duration;

sql_function! {
    /// `link_connections()`: names of the connections of this session; NULL if there are none. Volatile, parallel
    /// unsafe.
    fn link_connections, pg_finfo_link_connections(call) {
        link::dblink(call, c"dblink_get_connections")
    }
}

sql_function! {
    /// `link_connect(name, conninfo)`: opens a connection.
    ///
    /// Errors: 08001. Volatile, strict, parallel unsafe.
    fn link_connect, pg_finfo_link_connect(call) {
        let name = call.bytes(0).unwrap_or_default();
        let before = link::open_sockets();
        let connected = link::dblink(call, c"dblink_connect")?;
        link::remember(name, &before);
        Ok(connected)
    }
}

sql_function! {
    /// `link_disconnect(name)`: closes a connection; what was sent on it goes on.
    ///
    /// Errors: 08003. Volatile, strict, parallel unsafe.
    fn link_disconnect, pg_finfo_link_disconnect(call) {
        link::forget(call.bytes(0).unwrap_or_default());
        link::dblink(call, c"dblink_disconnect")
    }
}

sql_function! {
    /// `link_send(name, query)`: sends a statement, and returns 1, or 0 if the connection cannot take one.
    ///
    /// Errors: 08003. Volatile, strict, parallel unsafe.
    fn link_send, pg_finfo_link_send(call) {
        link::dblink(call, c"dblink_send_query")
    }
}

sql_function! {
    /// `link_busy(name)`: takes what has come on a connection, and returns 1 as long as the answer is not complete.
    ///
    /// Errors: 08003. Volatile, strict, parallel unsafe.
    fn link_busy, pg_finfo_link_busy(call) {
        link::dblink(call, c"dblink_is_busy")
    }
}

sql_function! {
    /// `link_error(name)`: `OK`, or that the answer which has come is an error.
    ///
    /// Errors: 08003. Volatile, strict, parallel unsafe.
    fn link_error, pg_finfo_link_error(call) {
        link::dblink(call, c"dblink_error_message")
    }
}

sql_function! {
    /// `link_result(name)`: the rows of the answer that has come.
    ///
    /// Errors: those of the answer, 08003. Volatile, strict, parallel unsafe.
    fn link_result, pg_finfo_link_result(call) {
        link::dblink(call, c"dblink_get_result")
    }
}

sql_function! {
    /// `link_wait(name, timeout_ms)`: returns when something has come on the connection of this name, or after
    /// that time, or earlier.
    ///
    /// Errors: 57014 cancelled. Volatile, strict, parallel unsafe.
    fn link_wait, pg_finfo_link_wait(call) {
        let longest_ms = u64::try_from(call.int4(1).unwrap_or_default()).unwrap_or_default();
        link::wait(call.bytes(0).unwrap_or_default(), Duration::from_millis(longest_ms));
        Ok(bool(true))
    }
}
