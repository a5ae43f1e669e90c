//! What the coordinator's functions, which are written in plpgsql, have decided here. Rows go in as JSON, as
//! `to_json` writes them; see [`json`](crate::cluster::json).

use crate::cluster::json;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{Rows, bool, int4};
use crate::pg::error::Error;
use crate::pg::session::xact::in_transaction_block;
use crate::sql_function;

fn unreadable(problem: json::Unreadable) -> Error {
    Error::Internal { what: format!("tables of the coordinator: {problem}") }
}

sql_function! {
    /// `in_transaction()`: whether the caller is in a transaction block or a subtransaction. Volatile, parallel
    /// unsafe.
    fn in_transaction, pg_finfo_in_transaction(_call) {
        Ok(bool(in_transaction_block()))
    }
}

sql_function! {
    /// `move_next(record, seen)`: the next step of a move, as JSON. Immutable, strict, parallel safe.
    fn move_next, pg_finfo_move_next(call) {
        let (record, seen) = (call.bytes(0).unwrap_or_default(), call.bytes(1).unwrap_or_default());
        let step = json::next_step(record, seen).map_err(unreadable)?;
        Ok(Some(text(step.as_bytes())))
    }
}

sql_function! {
    /// `move_cancelled(phase)`: the phase in which a move goes back; NULL if it does not any more. Immutable,
    /// strict, parallel safe.
    fn move_cancelled, pg_finfo_move_cancelled(call) {
        let phase = String::from_utf8_lossy(call.bytes(0).unwrap_or_default());
        let next = json::cancel(&phase).map_err(unreadable)?;
        Ok(next.map(|phase| text(phase.as_bytes())))
    }
}

sql_function! {
    /// `plan_moves(groups, places)`: a row for each move that should be made. Immutable, strict, parallel safe.
    fn plan_moves, pg_finfo_plan_moves(call) {
        let (groups, places) = (call.bytes(0).unwrap_or_default(), call.bytes(1).unwrap_or_default());
        let mut rows = Rows::begin(call);
        for planned in json::plan(groups, places).map_err(unreadable)?.1 {
            rows.put([
                int4(planned.partition_id),
                int4(planned.from),
                int4(planned.to),
                Some(text(planned.reason.as_bytes())),
            ])?;
        }
        Ok(None)
    }
}

sql_function! {
    /// `plan_shares(groups, places)`: how many partitions each group should have. Immutable, strict, parallel
    /// safe.
    fn plan_shares, pg_finfo_plan_shares(call) {
        let (groups, places) = (call.bytes(0).unwrap_or_default(), call.bytes(1).unwrap_or_default());
        let mut rows = Rows::begin(call);
        for standing in json::plan(groups, places).map_err(unreadable)?.0 {
            rows.put([int4(standing.group_id), int4(standing.share)])?;
        }
        Ok(None)
    }
}

sql_function! {
    /// `cluster_findings(cluster)`: what is wrong, as a JSON array of sentences. Immutable, strict, parallel safe.
    fn cluster_findings, pg_finfo_cluster_findings(call) {
        let found = json::examine(call.bytes(0).unwrap_or_default()).map_err(unreadable)?;
        Ok(Some(text(found.as_bytes())))
    }
}
