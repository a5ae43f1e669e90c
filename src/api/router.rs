//! What the functions of a router need of the library beside [`link`](super::link). It is declared by the script
//! of the extension `allsource_router` only.

use crate::pg::call::rows::bool;
use crate::pg::session::xact::in_transaction_block;
use crate::sql_function;

sql_function! {
    /// `router_in_transaction()`: whether the caller is in a transaction block or a subtransaction, so that what
    /// it does could be undone. Volatile, parallel unsafe.
    fn router_in_transaction, pg_finfo_router_in_transaction(_call) {
        Ok(bool(in_transaction_block()))
    }
}
